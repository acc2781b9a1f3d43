"""Many processes, other processors and full disks with one kernel cache."""

from pathlib import Path

import pytest

from tests.faults.processes import output, run, start

pytestmark = pytest.mark.faults

PROGRAM = """
import sys
import numpy as np
import symtensor.tensor as T
from symtensor import function, shared

number = int(sys.argv[1])
x, s = T.dvector("x"), shared(1.0)
same = function([x], (T.exp(x) * T.tanh(x)).sum(), updates={s: s + x.sum()})
other = function([x], T.sin(x * (number % 4)) + number)
v = np.linspace(-1, 1, 33)
assert abs(same(v) - (np.exp(v) * np.tanh(v)).sum()) < 1e-12
assert abs(s.get_value() - 1.0) < 1e-12
assert np.allclose(other(v), np.sin(v * (number % 4)) + number, rtol=1e-13)
print(same.compilation.native.compiled + other.compilation.native.compiled)
"""


@pytest.mark.slow
def test_32_processes_with_one_cold_cache(tmp_path: Path) -> None:
    running = [start(PROGRAM, tmp_path, str(number)) for number in range(32)]
    compiled = [int(output(process)) for process in running]
    assert max(compiled) >= 2, "somebody has to compile"
    assert int(run(PROGRAM, tmp_path, "7")) == 0, "everything is in the cache now"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".bin"], "left-over files"


def test_code_of_another_processor_is_not_used(tmp_path: Path) -> None:
    assert int(run(PROGRAM, tmp_path, "1", SYMTENSOR_CPU="x86-64")) >= 2
    assert int(run(PROGRAM, tmp_path, "1")) >= 2, "code for another processor was taken from the cache"
    assert int(run(PROGRAM, tmp_path, "1", SYMTENSOR_CPU="x86-64")) == 0
    assert int(run(PROGRAM, tmp_path, "1")) == 0


FULL = """
import resource, warnings
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write fails, as on a full disk
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as told:
    import symtensor.tensor as T
    from symtensor import function
    x = T.dvector("x")
    for power in (2, 3, 4):
        assert list(function([x], T.exp(x) ** power)([0.0])) == [1.0]
assert len(told) == 1 and "going on in memory" in str(told[0].message), [str(t.message) for t in told]
"""


def test_full_disk(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    run(FULL, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
