"""A broken kernel cache: a warning of each kind, and functions work all the same."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import warnings
import numpy as np
import symtensor.tensor as T
from symtensor import function, shared

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    x, s = T.dvector("x"), shared(1.0)
    f = function([x], (T.exp(x) * 2).sum(), updates={s: s + x.sum()})
    assert abs(f([0.0, 1.0]) - 2 * (1 + np.e)) < 1e-14
    assert s.get_value() == 2.0
for warning in told:
    print(warning.category.__name__, warning.message)
"""


def run(folder: Path) -> list[str]:
    """The warnings of a process that compiles and calls a function with this cache folder."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "SYMTENSOR_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_damaged_entries_are_made_again(tmp_path: Path) -> None:
    assert run(tmp_path) == []
    entries = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert entries
    for position, entry in enumerate(entries):
        content = bytearray(entry.read_bytes())
        if position % 2:
            del content[len(content) // 2 :]
        else:
            content[len(content) // 2] ^= 0xFF
        entry.write_bytes(content)
    (told,) = run(tmp_path)
    path = told.removeprefix("CacheWarning damaged entry in the kernel cache dropped and computed again: ")
    assert Path(path) in entries
    assert run(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "cache"
    read, written = run(folder)
    why = f"the kernel cache {folder}: [Errno 20] Not a directory: "
    assert read.startswith(f"CacheWarning cannot read {why}")
    assert read.endswith("; going on without it")
    assert written.startswith(f"CacheWarning cannot write {why}")
    assert written.endswith("; going on in memory")
