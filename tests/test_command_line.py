"""``python -m symtensor``: the tables about the compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import symtensor
from symtensor.__main__ import TABLES, Table, as_markdown, as_text, main
from symtensor.opdef import OPS


def test_tables_are_aligned() -> None:
    table = Table(("name", "meaning"), [("a", "first"), ("long|name", "second")])
    assert as_text(table) == "name       meaning\na          first\nlong|name  second"
    assert as_markdown(table).splitlines()[-1] == "| long\\|name | second |"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name])
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) > 2
    main([name, "--markdown"])
    assert capsys.readouterr().out.startswith("| ")


def test_every_operation_is_listed() -> None:
    listed = {row[0] for row in TABLES["ops"]().rows}
    assert listed == {op.name for op in OPS.values() if op.category != "leaf"}


def test_config_shows_current_values() -> None:
    with symtensor.config.change(floatX="float32"):
        rows = {row[0]: row[1] for row in TABLES["config"]().rows}
    assert rows["floatX"] == "float32"


def python(*arguments: str, **variables: str) -> str:
    folder = Path(symtensor.__file__).parents[1]
    path = os.pathsep.join(map(str, (folder, folder / "codegen")))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_the_cache_is_cleared(tmp_path: Path) -> None:
    folder = str(tmp_path)
    python(
        "-c",
        "from symtensor_codegen import cache; cache.put('0' * 40, b'kernel')",
        SYMTENSOR_CACHE_DIR=folder,
    )
    assert "removed 1 files" in python("-m", "symtensor", "cache", "--clear", SYMTENSOR_CACHE_DIR=folder)


def test_clearing_anything_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["ops", "--clear"])
    assert "--clear goes with cache" in capsys.readouterr().err


def test_it_runs_as_a_module() -> None:
    assert "log_softmax" in python("-m", "symtensor", "ops")
