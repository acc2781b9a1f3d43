"""What a user installs and imports: light, typed, complete."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED_WHEN_USED = ("IPython", "llvmlite", "matplotlib", "networkx", "pycuda", "scipy", "sklearn", "sympy")


def python(code: str, *options: str) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "codegen")])
    run = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return run.stdout


@pytest.mark.parametrize("package", ["symtensor", "symtensor.tensor"])
def test_import_loads_nothing_heavy(package: str) -> None:
    loaded = python(f"import sys, {package}; print(*sorted(sys.modules), sep='\\n')").split()
    assert package in loaded
    assert [name for name in LOADED_WHEN_USED if name in loaded] == []


def test_import_warns_of_nothing() -> None:
    assert python("import symtensor.tensor", "-W", "error") == ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tracked files: a build leaves nothing behind in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "pyproject.toml", "README.md", "LICENSE", "symtensor", "codegen"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source]
    subprocess.run(pip, check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_both_packages_whole(wheel: Path) -> None:
    """Every tracked file of the two packages is in the wheel, and nothing else is."""
    tracked = subprocess.run(
        ["git", "ls-files", "symtensor", "codegen/symtensor_codegen"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    expected = {name.removeprefix("codegen/") for name in tracked}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert found == expected
    assert {"symtensor/py.typed", "symtensor_codegen/py.typed"} <= found


@pytest.mark.slow
def test_wheel_runs_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed alone, away from the checkout, with an empty PATH: no compiler can be called."""
    venv.create(tmp_path / "env", with_pip=True)
    interpreter = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([interpreter, "-m", "pip", "install", "-q", wheel], check=True, timeout=300)
    code = (
        "import symtensor, symtensor.tensor as T; x = T.dvector('x');"
        "print(symtensor.__file__, symtensor.function([x], (x * x).sum())([1.0, 2.0, 3.0]))"
    )
    environment = {"PATH": "", "SYMTENSOR_CACHE_DIR": str(tmp_path / "kernels")}
    run = subprocess.run(
        [interpreter, "-W", "error", "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    location, value = run.stdout.split()
    assert Path(location).is_relative_to(tmp_path)
    assert float(value) == 14.0
