"""The programs for GPUs, tried without one: every row is right on the CPU, and a run that goes wrong says so."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

import result_tables as tables  # noqa: E402
from rows import ROWS  # noqa: E402
from worker import difference, measured  # noqa: E402


def bench(folder: Path, *options: str) -> dict[str, Any]:
    out = folder / "bench.json"
    command = [sys.executable, str(HERE / "bench.py"), "--out", str(out), "--small", "--peers", "symtensor",
               "--time", "0.005", "--rounds", "1", *options]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return dict(json.loads(out.read_text()))


def test_every_row_is_right_on_the_cpu(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--device", "cpu")
    assert list(figures["rows"]) == [row.name for row in ROWS]
    for name, record in figures["rows"].items():
        assert "skipped" not in record, name
        mine = record["results"]["symtensor"]
        assert "error" not in mine, name
        assert mine["wrong"] == {}, name
        assert mine["errors"], name
        assert mine["seconds"] > 0, name


def test_rows_that_cannot_run_are_reported(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--device", "cuda", "--rows", "overhead,G4")
    if isinstance(figures["peers"]["symtensor"], dict):
        pytest.skip("there is a device")
    assert "cannot be run" in figures["peers"]["symtensor"]
    assert figures["rows"]["G4"]["results"] == {}


def test_a_row_is_not_begun_without_time(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--device", "cpu", "--rows", "overhead", "--seconds", "1")
    assert figures["rows"]["overhead"]["skipped"] == "no time was left"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the harness is for Linux")
def test_a_run_that_is_ended_leaves_its_results(tmp_path: Path) -> None:
    command = ["bash", str(HERE / "run.sh"), "--dry-run", "--peers", "symtensor", "--results", str(tmp_path), "--only",
               "bench"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, PYTHON=sys.executable)
    )
    end = time.monotonic() + 60
    results = tmp_path / "results.json"
    while time.monotonic() < end and not (results.exists() and "bench" in json.loads(results.read_text())):
        time.sleep(0.1)
    process.terminate()
    process.communicate(timeout=30)
    record = json.loads(results.read_text())
    assert record["parts"]["facts"]["status"] == "ok"
    assert record["parts"]["bench"]["status"] in ("the run was ended", "ok")
    assert "A dry run" in (tmp_path / "results.md").read_text()


def test_differences_are_relative_to_what_is_expected() -> None:
    expected = np.array([3.0, 4.0])
    assert difference(expected.astype("float32"), expected) == 0
    off, start = np.array([3.05, 4.0]), np.array([3.0, 3.5])
    assert difference(off, expected) == pytest.approx(0.01)
    assert difference(off, expected, start) == pytest.approx(0.1)
    assert difference(expected[:1], expected) == float("inf")
    assert np.isnan(difference(np.array([np.nan, 4.0]), expected))
    assert difference(np.array([True, False]), np.array([True, True])) == 0.5


def test_a_call_is_timed_with_the_work_that_it_starts() -> None:
    queued: list[float] = []

    def call(k: int) -> None:
        queued.append(0.001)

    def synchronize() -> None:
        time.sleep(sum(queued))
        queued.clear()

    assert measured(call, 1, synchronize, 0.05)["median"] == pytest.approx(0.001, rel=0.5)


def result(seconds: float, **more: Any) -> dict[str, Any]:
    return {"peer": "", "seconds": seconds, "spread": 0.0, "wrong": {}, **more}


def a_run(results: dict[str, Any], bytes_moved: int | None = None, row: str = "G4") -> dict[str, Any]:
    record = {"title": "", "bytes": bytes_moved, "results": results}
    return {"date": "", "dry": False, "parts": {}, "facts": {"copy": 1e12}, "bench": {"rows": {row: record}}}


def test_targets_compare_with_the_best_peer_that_is_right() -> None:
    fast, wrong = result(1e-3), result(1e-4, wrong={"result 0": 1.0})
    run = a_run({"symtensor": result(8e-4), "torch.compile": fast, "torch.compile module": wrong})
    assert "| torch.compile 1 ms | 0.80 | <= 0.90 | yes |" in tables.targets(run)
    run["bench"]["rows"]["G4"]["results"]["torch.compile module"] = {"peer": "", "error": "it fell over"}
    assert "| 0.80 | <= 0.90 | ? (torch.compile module: failed) |" in tables.targets(run)
    run["bench"]["rows"]["G4"]["results"]["symtensor"] = result(9.5e-4)
    assert "| 0.95 | <= 0.90 | **no** |" in tables.targets(run)
    run["bench"]["rows"]["G4"]["results"]["symtensor"] = wrong
    assert "| WRONG |" in tables.targets(run)
    assert "wrong {'result 0': 1.0}" in tables.markdown(run)


def test_bandwidth_is_a_share_of_the_measured_copy() -> None:
    run = a_run({"symtensor": result(1e-3)}, 950_000_000, "G3_f32")
    assert "| copy 1000 GB/s | 0.950 | >= 0.90 | yes |" in tables.targets(run)
    assert "950 (0.95)" in tables.rooflines(run)
    del run["facts"]["copy"]
    assert "| ? |" in tables.targets(run)


def test_a_dry_run_reaches_nothing() -> None:
    run = a_run({"symtensor": result(1e-7)}, row="overhead") | {"dry": True}
    assert "| dry run |" in tables.targets(run)
    assert "yes" not in tables.targets(run)
