"""Calls that nobody waits for: what fails is told by the next call or read, and nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import Out, function, grad, shared
from symtensor import devices as places
from symtensor_codegen.cuda import backend
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.calls import late
from symtensor_codegen.cuda.calls.late import MOST, late_of
from symtensor_codegen.errors import OutOfRangeError
from tests.cuda.host import HostDevice
from tests.cuda.pretended_cuda import Machine, install
from tests.cuda.pretended_programs import Interpreted

pytestmark = pytest.mark.cuda_host
Array = np.ndarray[Any, Any]
GOOD, BAD = np.array([0, 1, 2]), np.array([0, 7, 2])
X = np.arange(12.0).reshape(3, 4) / 10


@pytest.fixture
def slow(host: HostDevice) -> Iterator[HostDevice]:
    """A device whose answers take their time."""
    devices.use(host)
    host.slow_arrivals = True
    yield host
    devices.forget(host.name)


def training(outputs: bool = False) -> tuple[Any, Any]:
    """A step that reads labels, which may be out of range, before it updates its weights in place."""
    w = shared(np.zeros((4, 3)), name="w")
    x, labels = T.dmatrix("x"), T.lvector("labels")
    loss = T.nnet.categorical_crossentropy(T.nnet.softmax(T.dot(x, w)), labels).mean()
    step = function([x, labels], loss if outputs else [], updates={w: w - 0.5 * grad(loss, w)}, name="step",
                    device="cuda")  # fmt: skip
    return step, w


def test_the_next_read_tells(slow: HostDevice) -> None:
    step, w = training()
    step(X, GOOD)
    before = w.get_value()
    assert step(X, BAD) == []
    step(X, GOOD)  # had no effect: the call before it failed
    with pytest.raises(OutOfRangeError, match=r"step: .*index 7 .*labels.* is out of range") as caught:
        w.get_value()
    assert any("An earlier call failed" in note for note in caught.value.__notes__)
    np.testing.assert_array_equal(w.get_value(), before)
    step(X, GOOD)
    assert not np.array_equal(w.get_value(), before)


def test_the_next_call_tells(slow: HostDevice) -> None:
    step, w = training()
    step(X, BAD)
    slow.slow_arrivals = False
    with pytest.raises(OutOfRangeError, match="index 7"):
        step(X, GOOD)
    np.testing.assert_array_equal(w.get_value(), np.zeros((4, 3)))


def test_another_function_tells(slow: HostDevice) -> None:
    step, _ = training()
    step(X, BAD)
    slow.slow_arrivals = False
    v = T.dvector("v")
    other = function([v], v * 2, device="cuda")
    with pytest.raises(OutOfRangeError, match="step"):
        other(np.ones(3))
    np.testing.assert_array_equal(other(np.ones(3)), [2, 2, 2])


def picking() -> tuple[Any, Any, Any]:
    """Elements at indices, which may be out of range, that stay on the device; and what goes on with them."""
    x, i = T.dvector("x"), T.lvector("i")
    pick = function([x, i], x[i], name="pick", device="cuda", results="device")
    double = function([x], x * 2, name="double", device="cuda", results="device")
    kept = shared(np.zeros(1), "kept", target="cuda")
    return pick, double, kept


def test_results_of_what_failed_are_never_numbers(slow: HostDevice) -> None:
    """Not when they are read again, nor through other functions, copies or variables; others are."""
    pick, double, kept = picking()
    good = pick(np.ones(4) * 3, [2])
    bad = pick(np.ones(4) * 3, [7])
    more = double(bad)
    again = double(more)
    well = double(good)
    with pytest.raises(OutOfRangeError, match=r"pick: .*index 7"):
        np.asarray(well)  # the first to look is told
    np.testing.assert_array_equal(well, [6])
    np.testing.assert_array_equal(good, [3])
    for array in (bad, more, again, bad):
        for use in (np.asarray, double, float, kept.set_value, lambda a: a.copy(), np.from_dlpack):
            with pytest.raises(OutOfRangeError, match=r"pick: .*index 7"):
                use(array)
    np.testing.assert_array_equal(kept.get_value(), [0])
    np.testing.assert_array_equal(double(good), [6])
    assert good.fate is None
    assert well.fate is None


def test_a_variable_takes_no_result_of_what_failed(slow: HostDevice) -> None:
    pick, _, kept = picking()
    bad = pick(np.ones(4), [7])
    with pytest.raises(OutOfRangeError, match="index 7"):
        kept.set_value(bad)
    np.testing.assert_array_equal(kept.get_value(), [0])
    kept.set_value(pick(np.ones(4) * 5, [1]))
    np.testing.assert_array_equal(kept.get_value(), [5])


def test_updates_take_no_result_of_what_failed(slow: HostDevice) -> None:
    """Of another function's program, whose word kernels of this one do not see."""
    pick, _, kept = picking()
    x = T.dvector("x")
    use = function([x], [], updates={kept: kept + x}, device="cuda")
    use(pick(np.ones(4) * 2, [1]))
    with pytest.raises(OutOfRangeError, match=r"pick: .*index 7"):
        use(pick(np.ones(4), [7]))
    for _ in range(2):
        np.testing.assert_array_equal(kept.get_value(), [2])
    use(pick(np.ones(4) * 3, [3]))
    np.testing.assert_array_equal(kept.get_value(), [5])


def test_chains_of_results_are_not_kept_alive(slow: HostDevice) -> None:
    """A state that goes from call to call has the fates of those calls only that nobody knows."""
    x, i = T.dvector("x"), T.lvector("i")
    step = function([x, i], x[i] + 1, device="cuda", results="device")
    state = step(np.zeros(2), [0, 1])
    for _ in range(3 * MOST):
        state = step(state, [1, 0])
    depth, fate = 0, state.fate
    while fate is not None:
        depth, fate = depth + 1, fate.after[0] if fate.after else None
    assert depth <= MOST + 2
    np.testing.assert_array_equal(state, [3 * MOST + 1] * 2)


def test_results_on_this_machine_wait(slow: HostDevice) -> None:
    step, w = training(outputs=True)
    with pytest.raises(OutOfRangeError, match="index 7") as caught:
        step(X, BAD)
    assert not hasattr(caught.value, "__notes__")
    np.testing.assert_array_equal(w.get_value(), np.zeros((4, 3)))


def test_results_on_the_device_tell_when_they_are_read(slow: HostDevice) -> None:
    x, places_in = T.dvector("x"), T.lvector("i")
    pick = function([x, places_in], x[places_in], device="cuda", results="device")
    good = pick(np.arange(4.0), GOOD)
    bad = pick(np.arange(4.0), BAD)
    with pytest.raises(OutOfRangeError, match="index 7"):
        bad.numpy()
    np.testing.assert_array_equal(good.numpy(), [0, 1, 2])


def test_not_too_many_are_waiting(slow: HostDevice) -> None:
    step, _ = training()
    for _ in range(MOST + 5):
        step(X, GOOD)
    assert len(late_of(places.opened("cuda:0")).calls) <= MOST + 1


@pytest.mark.parametrize("order", ["late", "early"])
def test_whoever_reads_waits_in_the_devices_context(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's events belong to a context, which is current during calls only."""
    machine = Machine(order, 0)
    install(monkeypatch, machine, bindings=True)
    device = Interpreted(machine)
    monkeypatch.setattr(backend, "default_emitter", device.emitter)
    devices.use(device)
    try:
        x, i, w = T.dvector("x"), T.lvector("i"), shared(np.zeros(4), "w", target=device.name)
        f = function([x, i], Out(x[i] * 2, borrow=True), updates={w: w + 1}, device=device.name)
        for read in (np.asarray, lambda result: result.numpy(), lambda result: result.copy().numpy()):
            result = f(np.arange(4.0), np.array([0, 3]))
            np.testing.assert_array_equal(read(result), [0, 6])
        f(np.arange(4.0), np.array([0, 9]))
        with pytest.raises(OutOfRangeError, match="index 9"):
            late.settle(device)
        np.testing.assert_array_equal(w.get_value(), [3, 3, 3, 3])
    finally:
        devices.forget(device.name)
