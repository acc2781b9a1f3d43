"""The import contracts of pyproject.toml hold, and each of them can fail: a planted import is caught."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANTED = {  # where to add which line, and the contract that must break
    "codegen/symtensor_codegen/planted.py": ("import symtensor", "The compiler kit knows nothing of tensors"),
    "codegen/symtensor_codegen/text.py": (
        "import symtensor_codegen.llvm.jit", "Scalars, loops and programs know no backend",
    ),
    "symtensor/ops/planted.py": ("import symtensor.lower", "Ops do not know how they are compiled"),
    "symtensor/rules/planted.py": ("import symtensor.lower", "Rules do not know how graphs are lowered"),
    "symtensor/lower/planted.py": ("import symtensor_codegen.llvm", "Lowering knows no backend"),
    "codegen/symtensor_codegen/reference/planted.py": (
        "import symtensor_codegen.llvm", "Backends do not know each other",
    ),
    "symtensor/planted.py": ("import llvmlite", "Tensors never touch a code generator's library"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("layers")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in ("symtensor", "codegen"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def lint_imports(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Import-linter on a checkout; its own process, since it reads the packages from the import path."""
    path = os.pathsep.join([str(checkout), str(checkout / "codegen")])
    command = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=checkout, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_contracts_hold(checkout: Path) -> None:
    run = lint_imports(checkout)
    assert run.returncode == 0, run.stdout
    assert " 0 broken" in run.stdout


@pytest.mark.parametrize("place", PLANTED)
def test_an_import_against_the_grain_is_caught(checkout: Path, place: str) -> None:
    line, contract = PLANTED[place]
    planted = checkout / place
    before = planted.read_text(encoding="utf-8") if planted.exists() else None
    planted.write_text((before or "") + f"\n{line}\n", encoding="utf-8")
    try:
        run = lint_imports(checkout)
    finally:
        if before is None:
            planted.unlink()
        else:
            planted.write_text(before, encoding="utf-8")
    assert run.returncode == 1
    assert f"{contract} BROKEN" in run.stdout
