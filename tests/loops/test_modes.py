"""Loops and branches in the modes that look closer, and under Ctrl-C."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import NotFiniteError, function, scan, shared
from symtensor.graph import Tensor, ancestors
from symtensor.ifelse import ifelse
from symtensor.ops.loop_records import LOOP, steps_run
from symtensor.scan_module import until

ROOT = Path(__file__).parents[2]


def _recurrent() -> tuple[list[Tensor], Tensor, list[Any]]:
    x, h, w = T.dvector("x"), T.dvector("h"), T.dmatrix("w")
    out, _ = scan(lambda v, h, w: T.tanh(T.dot(h, w) + v), x, h, w)
    return [x, h, w], (out**2).sum(), [np.arange(6.0), np.ones(2), 0.5 * np.eye(2)]


def _until() -> tuple[list[Tensor], Tensor, list[Any]]:
    x = T.dvector("x")
    out, _ = scan(lambda v, s: (s * v, until(s * v > 10)), x, T.constant(1.0))
    return [x], out.sum(), [np.arange(1.0, 9)]


def _nested() -> tuple[list[Tensor], Tensor, list[Any]]:
    x = T.dmatrix("x")

    def outer(row: Tensor, total: Tensor) -> Tensor:
        inner, _ = scan(lambda v, s: T.sin(s * v), row, total)
        return inner[-1]

    out, _ = scan(outer, x, T.constant(1.0))
    return [x], out.sum(), [np.ones((4, 7))]


def _branch() -> tuple[list[Tensor], Tensor, list[Any]]:
    c, x, i = T.iscalar("c"), T.dvector("x"), T.lscalar("i")
    return [x, c, i], ifelse(c, T.exp(x).sum(), x[i]), [np.arange(3.0), np.int32(1), 7]


@pytest.mark.parametrize("mode", ["debug", "nan_guard", "fast_compile", "reference"])
@pytest.mark.parametrize("program", [_recurrent, _until, _nested, _branch])
def test_modes_agree(mode: str, program: Any) -> None:
    inputs, cost, values = program()
    outputs = [cost, T.grad(cost, inputs[0])]
    want = function(inputs, outputs)(*values)
    for got, w in zip(function(inputs, outputs, mode=mode)(*values), want, strict=True):
        np.testing.assert_allclose(got, w, rtol=1e-12)


def _message(inputs: Sequence[Tensor], output: Tensor, *values: Any) -> str:
    total = shared(1.0, name="total")
    f = function(inputs, output, updates={total: total + 1}, mode="nan_guard", name="f")
    with pytest.raises(NotFiniteError) as caught:
        f(*values)
    assert total.get_value() == 1
    return str(caught.value)


def test_nan_guard_tells_the_step() -> None:
    x = T.dvector("x")
    out, _ = scan(lambda v, s: T.log(v) + T.tanh(s), x, T.constant(0.0), name="walk")
    assert "NaN in log: TensorType(float64, scalar) (test_modes.py:" in _message([x], out, [1.0, 2.0, -3.0, 1.0])
    assert "in step 2 of walk" in _message([x], out[-1], [1.0, 2.0, -3.0, -1.0])
    assert "infinity in log" in _message([x], out, [1.0, 0.0, -1.0])
    assert "in step 1 of walk" in _message([x], out, [1.0, 0.0, -1.0])


def test_steps_are_counted_where_a_loop_is_in_registers_too() -> None:
    x = T.dvector("x")
    out, _ = scan(lambda v, s: T.log(v) + T.tanh(s), x, T.constant(0.0))
    (loop,) = [node for node in ancestors([out]) if node.op is LOOP]
    f = function([x], [out, steps_run(loop)])
    for count in (0, 1, 5, 70_000):
        assert f(np.ones(count))[1] == count


def test_nan_guard_counts_steps_of_backward_and_ended_loops() -> None:
    x = T.dvector("x")
    out, _ = scan(lambda v, s: (T.sqrt(v) + s, until(s > 2)), x, T.constant(0.0), go_backwards=True)
    assert "in step 1 of a loop" in _message([x], out, [1.0, 1.0, 1.0, -1.0, 1.0])
    got = function([x], out, mode="nan_guard")([-1.0, 1.0, 1.0, 1.0, 1.0])  # ends before the bad row
    assert got.tolist() == [1, 2, 3, 4]
    cost = (out**2).sum()
    gradient = function([x], T.grad(cost, x), mode="nan_guard")([-1.0, 1.0, 1.0, 1.0, 1.0])
    assert np.isfinite(gradient).all()


def test_nan_guard_tells_the_steps_of_nested_loops() -> None:
    x = T.dmatrix("x")

    def outer(row: Tensor, start: Tensor) -> Tensor:
        inner, _ = scan(lambda v, s: T.log(v * T.cos(s)) * 0.1 + 1, row, T.tanh(start))
        return inner[-1]

    out, _ = scan(outer, x, T.constant(0.0))
    value = np.ones((7, 9))
    value[4, 6] = -1
    assert "in step 4, in step 6 of a loop" in _message([x], out, value)


INFINITE = """
import signal, sys
import numpy as np
import symtensor
import symtensor.tensor as T

start = {"registers": T.zeros(3), "host": symtensor.shared(np.zeros(100))}[sys.argv[1]]
total = symtensor.shared(1.0)
end = symtensor.while_loop(lambda v: v[0] < 1e300, lambda v: T.tanh(v), start)
f = symtensor.function([], end, updates={total: total + 1})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may have begun without
print("ready", flush=True)
try:
    f()
except KeyboardInterrupt:
    print("interrupted", total.get_value(), flush=True)
"""


@pytest.mark.parametrize("kind", ["registers", "host"])
def test_a_loop_without_end_is_stopped_by_ctrl_c(kind: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "codegen")])}
    command = [sys.executable, "-c", INFINITE, kind]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert rest == "interrupted 1.0\n"


def test_a_failed_call_changes_no_state_of_a_loop() -> None:
    x, total = T.dvector("x"), shared(np.zeros(3), name="total")
    out, updates = scan(lambda i: (x[i], {total: total + x[i]}), T.arange(5))
    f = function([x], out, updates=updates)
    with pytest.raises(IndexError):
        f([1.0, 2.0, 3.0])
    assert not total.get_value().any()
    f(np.ones(5))
    assert total.get_value().tolist() == [5, 5, 5]
