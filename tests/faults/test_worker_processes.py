"""Compiled functions in forked and spawned workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.processes import PATH, run

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")]

MODEL = """
import numpy as np
import symtensor.tensor as T
from symtensor import function, shared

x = T.dmatrix("x")
w = shared(np.arange(4.0), name="w")
f = function([x], T.dot(T.tanh(T.dot(x, x.T)), T.exp(x.sum(axis=1))).sum() + w.sum(), updates={w: w + 1})
v = np.linspace(-1, 1, 300 * 200).reshape(300, 200)

def wanted(v, w):
    return (np.tanh(v @ v.T) @ np.exp(v.sum(1))).sum() + w.sum()

def correct(v):
    before = w.get_value()
    return bool(np.isclose(f(v), wanted(v, before), rtol=1e-10) and (w.get_value() == before + 1).all())
"""


def test_fork_after_use(tmp_path: Path) -> None:
    """The child has no worker threads of its parent: it starts its own; its state is its own."""
    program = (
        MODEL
        + """
import os
assert correct(v)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        fine = correct(v) and correct(v[:7])
        g = function([x], T.cos(x) * 3)  # compiles here too
        os._exit(0 if fine and np.allclose(g(v), np.cos(v) * 3) else 1)
    children.append(child)
assert correct(v)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
assert (w.get_value() == np.arange(4.0) + 2).all()
"""
    )
    run(program, tmp_path)
    run(program, tmp_path, SYMTENSOR_NUM_THREADS="2")


def test_pool_of_forked_workers(tmp_path: Path) -> None:
    run(
        MODEL
        + """
import multiprocessing
assert correct(v)
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert all(pool.map(correct, [v[:n] for n in (300, 1, 17, 150)] * 3))
""",
        tmp_path,
    )


def test_functions_are_sent_to_spawned_workers(tmp_path: Path) -> None:
    """A pickled function is compiled again where it arrives, with a copy of its shared variables."""
    script = tmp_path / "script.py"
    script.write_text(
        MODEL
        + """
def apply(task):
    function, argument = task
    before = function.get_shared()[0].get_value()
    assert np.isclose(function(argument), wanted(argument, before), rtol=1e-10)
    return function.get_shared()[0].get_value()

if __name__ == "__main__":
    import multiprocessing
    f(v)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for state in pool.map(apply, [(f, v), (f, v[:5]), (f, v[:1])]):
            assert (state == np.arange(4.0) + 2).all(), state
    assert (w.get_value() == np.arange(4.0) + 1).all()
    print("done")
"""
    )
    assert _python(str(script), tmp_path) == "done\n"


def test_joblib(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    script = tmp_path / "script.py"
    script.write_text(
        MODEL
        + """
if __name__ == "__main__":
    from joblib import Parallel, delayed
    sizes = (1, 20, 300)
    for backend in ("loky", "threading"):
        start = w.get_value()
        totals = Parallel(n_jobs=2, backend=backend)(delayed(f)(v[:n]) for n in sizes)
        plain = [wanted(v[:n], np.zeros(4)) for n in sizes]
        steps = [(total - base - start.sum()) / 4 for total, base in zip(totals, plain)]
        assert all(abs(step - round(step)) < 1e-4 for step in steps), (backend, steps)
    print("done")
"""
    )
    assert _python(str(script), tmp_path) == "done\n"


def _python(script: str, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": PATH, "SYMTENSOR_CACHE_DIR": str(cache / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
