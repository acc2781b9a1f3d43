"""Sphinx configuration. The op, rule and pass tables are written by the compiler itself, on every build."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TABLES = ("ops", "rules", "passes")

project = "symtensor"
author = PROJECT["authors"][0]["name"]
copyright = f"2026, {author}"
version = release = PROJECT["version"]

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
nitpicky = True
html_title = "symtensor"
html_theme = "alabaster"
html_theme_options = {"description": PROJECT["description"], "page_width": "1060px"}


def write_tables(_app: Sphinx) -> None:
    """Write `generated/ops.md` and its like from `python -m symtensor ops --markdown`."""
    folder = ROOT / "docs" / "generated"
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT), str(ROOT / "codegen")])
    for table in TABLES:
        text = subprocess.run(
            [sys.executable, "-m", "symtensor", table, "--markdown"],
            env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, check=True,
        ).stdout  # fmt: skip
        (folder / f"{table}.md").write_text(f"# Table of {table}\n\n{text}", encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_tables)
