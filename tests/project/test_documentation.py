"""Every Python block of README and docs runs; every relative link leads somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [page for page in PAGES if "```python\n" in page.read_text(encoding="utf-8")]
# Blocks run at their own line numbers, so that a failure names the line of the page.
RUN_BLOCKS = """
import pathlib, sys
page = sys.argv[1]
lines = pathlib.Path(page).read_text(encoding="utf-8").splitlines(keepends=True)
inside, block, first = False, [], 0
for number, line in enumerate(lines, 1):
    if not inside and line == "```python\\n":
        inside, block, first = True, [], number
    elif inside and line == "```\\n":
        inside = False
        exec(compile("\\n" * first + "".join(block), page, "exec"), globals())
    elif inside:
        block.append(line)
"""


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """A process for each page: a page that adds an op or a rule must not change what other tests see."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "codegen")])}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_BLOCKS, page],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("http") and "generated/" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
