"""The store of object code: damage, races, bounds, folders that cannot be written."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from symtensor_codegen import cache
from symtensor_codegen.cache import CacheWarning, Store

KEY = cache.key("example")


def only_file(folder: Path) -> Path:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 1
    return files[0]


def test_round_trip_through_memory_and_disk(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.get(KEY) is None
    store.put(KEY, b"code")
    assert store.get(KEY) == b"code"
    assert Store(str(tmp_path)).get(KEY) == b"code"
    info = store.info()
    assert (info.disk_entries, info.memory_entries, info.memory_hits, info.misses) == (1, 1, 1, 1)
    assert store.clear() == 1
    assert store.get(KEY) is None
    assert Store(None).info().directory is None


def test_keys_keep_their_parts_apart() -> None:
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("ab") == cache.key(b"ab")


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "header", "longer"])
def test_damaged_entries_are_dropped(tmp_path: Path, damage: str) -> None:
    Store(str(tmp_path)).put(KEY, b"some object code")
    path = only_file(tmp_path)
    content = path.read_bytes()
    changed = {
        "truncate": content[:-3],
        "flip": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "header": b"x" + content[1:],
        "longer": content + b"x",
    }
    path.write_bytes(changed[damage])
    store = Store(str(tmp_path))
    with pytest.warns(CacheWarning, match="damaged entry"):
        assert store.get(KEY) is None
    assert not path.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(changed[damage])
    assert store.get(KEY) is None, "and no second warning, which would be an error here"
    store.put(KEY, b"some object code")
    assert Store(str(tmp_path)).get(KEY) == b"some object code"


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    # A file where the folder should be: it works for root too, whom permissions do not stop.
    (tmp_path / "cache").write_text("")
    store = Store(str(tmp_path / "cache" / "inside"))
    with pytest.warns(CacheWarning, match="cannot write"):
        store.put(KEY, b"code")
    store.put(cache.key("other"), b"more")
    assert store.get(KEY) == b"code"
    assert store.get(cache.key("other")) == b"more"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    Store(str(tmp_path)).put(KEY, b"code")
    tmp_path.chmod(0o500)
    only_file(tmp_path).parent.chmod(0o500)
    try:
        store = Store(str(tmp_path))
        assert store.get(KEY) == b"code"
        with pytest.warns(CacheWarning, match="cannot write"):
            store.put(cache.key("other"), b"code")
    finally:
        tmp_path.chmod(0o700)
        only_file(tmp_path).parent.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    plain_open = builtins.open

    def full(path: str, mode: str = "r") -> Any:
        return plain_open("/dev/full", "wb") if "x" in mode else plain_open(path, mode)

    monkeypatch.setattr(builtins, "open", full)
    store = Store(str(tmp_path))
    with pytest.warns(CacheWarning, match="No space left"):
        store.put(KEY, b"code" * 10_000)
    monkeypatch.undo()
    assert store.get(KEY) == b"code" * 10_000
    assert Store(str(tmp_path)).get(KEY) is None


def test_memory_is_bounded() -> None:
    store = Store(None, memory_limit=1000)
    for number in range(10):
        store.put(cache.key(str(number)), bytes(300))
    assert store.info().memory_bytes <= 1000
    assert store.get(cache.key("9")) is not None
    assert store.get(cache.key("0")) is None


def test_disk_is_bounded_and_keeps_what_is_used(tmp_path: Path) -> None:
    store = Store(str(tmp_path), disk_limit=20_000)
    for number in range(15):
        store.put(cache.key(str(number)), bytes(1000))
    entries = sorted(tmp_path.rglob("*.bin"))
    for path in entries:
        os.utime(path, (1, 1))
    # Reading an old entry makes it young; the others go when the bound is passed.
    assert Store(str(tmp_path)).get(cache.key("3")) is not None
    for number in range(20, 29):
        store.put(cache.key(str(number)), bytes(1000))
    assert store.info().disk_bytes <= 20_000 + 2_500
    fresh = Store(str(tmp_path))
    left = [number for number in range(15) if fresh.get(cache.key(str(number))) is not None]
    assert 3 in left
    assert len(left) < 10
    assert all(fresh.get(cache.key(str(number))) is not None for number in range(20, 29))


def test_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYMTENSOR_CACHE_DIR", str(tmp_path / "x"))
    assert cache.default_directory() == str(tmp_path / "x")
    for off in ("", "off"):
        monkeypatch.setenv("SYMTENSOR_CACHE_DIR", off)
        assert cache.default_directory() is None
    monkeypatch.delenv("SYMTENSOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache.default_directory() == str(tmp_path / "symtensor")


RACE = """
import numpy as np, sys
from symtensor_codegen.llvm.calling import make_callable
from tests.codegen.runtime_programs import add_spec
from symtensor_codegen import cache
from symtensor_codegen.llvm import jit
number = int(sys.argv[1])
add = make_callable(add_spec())
assert (add(np.arange(9.0), np.ones(9)) == np.arange(9.0) + 1).all()
for shared in range(40):
    key = cache.key("shared", str(shared))
    assert cache._store()._read(key) in (None, bytes([shared]) * 5000)
    cache.put(key, bytes([shared]) * 5000)
cache.put(cache.key("own", str(number)), bytes([number]) * 5000)
"""


@pytest.mark.faults
def test_32_processes_with_one_cold_cache(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = dict(os.environ) | {
        "SYMTENSOR_CACHE_DIR": str(tmp_path / "cold"),
        "PYTHONPATH": os.pathsep.join((str(root), str(root / "codegen"))),
        "SYMTENSOR_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error", "-c", RACE]
    running = [
        subprocess.Popen([*command, str(number)], env=environment, stderr=subprocess.PIPE, text=True)
        for number in range(32)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = Store(str(tmp_path / "cold"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(32):
            assert store.get(cache.key("own", str(number))) == bytes([number]) * 5000
    assert not list((tmp_path / "cold").rglob(".new-*"))


def test_reading_is_fast(tmp_path: Path) -> None:
    import time

    Store(str(tmp_path)).put(KEY, bytes(5000))
    times = []
    for _ in range(50):
        store = Store(str(tmp_path))
        start = time.perf_counter()
        assert store.get(KEY) is not None
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-4
