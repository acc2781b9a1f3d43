"""Shared variables on a device: values in and out, moves, copies, pickles, random streams."""

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function, shared
from symtensor.nnet.updates import adam
from symtensor.random import RandomStreams
from symtensor.shared_variables import ArgumentShapeError
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.errors import DTypeError, MixedDevicesError
from tests.cuda.host import HostDevice

pytestmark = pytest.mark.cuda_host
Devices = tuple[HostDevice, HostDevice]


def test_a_variable_is_made_where_it_is_asked_for(two_devices: Devices) -> None:
    assert shared(np.ones(3)).device == "cpu"
    for target, device in (("cuda", "cuda:0"), ("gpu", "cuda:0"), ("cuda1", "cuda:1"), ("cpu", "cpu")):
        w = shared(np.arange(3.0), target=target)
        assert w.device == device
        np.testing.assert_array_equal(w.get_value(), [0.0, 1.0, 2.0])
    with config.change(device="cuda"):
        assert shared(1.0).device == "cuda:0"
        assert shared(1.0, target="cpu").device == "cpu"
    with config.change(device="cuda:sm_90"):
        assert shared(1.0).device == "cpu"


def test_compiling_moves_it(two_devices: Devices) -> None:
    w = shared(np.arange(3.0), borrow=True)
    f = function([], w.sum(), updates={w: w + 1}, device="cuda")
    assert w.device == "cuda:0"
    assert f() == 3.0
    np.testing.assert_array_equal(w.get_value(), [1.0, 2.0, 3.0])


def test_values(two_devices: Devices) -> None:
    w = shared(np.arange(3.0), target="cuda")
    f = function([], w.sum())
    w.get_value(borrow=True)[:] = 9  # a copy in any case
    assert f() == 3.0
    for value in ([1.0, 2.0], np.ones(5, np.float32), np.arange(8.0)[::2], np.empty(0)):
        w.set_value(value)
        assert w.device == "cuda:0"
        np.testing.assert_array_equal(w.get_value(), value)
        assert f() == np.sum(value)
    w.zero()
    assert w.get_value().shape == (0,)
    w.set_value([4.0, 5.0])
    w.zero()
    assert w.get_value().tolist() == [0.0, 0.0]
    with pytest.raises(DTypeError, match="set_value"):
        w.set_value(np.ones(2, np.complex64))
    with pytest.raises(ArgumentShapeError, match="set_value"):
        w.set_value(np.ones((2, 2)))


def test_values_of_the_device(two_devices: Devices) -> None:
    first, second = two_devices
    w = shared(np.arange(3.0), target="cuda")
    inside = w.get_value(borrow=True, return_internal_type=True)
    assert type(inside) is DeviceArray
    assert inside.address != w.get_value(return_internal_type=True).address
    assert inside.address == w.get_value(borrow=True, return_internal_type=True).address
    given = DeviceArray.upload(first, np.ones(2))
    w.set_value(given)
    assert w.get_value(borrow=True, return_internal_type=True).address != given.address
    w.set_value(given, borrow=True)
    assert w.get_value(borrow=True, return_internal_type=True) is given
    function([], [], updates={w: w * 2})()
    np.testing.assert_array_equal(w.get_value(), [2.0, 2.0])
    w.set_value(DeviceArray.upload(second, np.full(4, 7.0)))  # comes by way of this machine
    np.testing.assert_array_equal(w.get_value(), np.full(4, 7.0))
    w.set_value(DeviceArray.upload(first, np.ones(2, np.float32)))
    np.testing.assert_array_equal(w.get_value(), [1.0, 1.0])
    with pytest.raises(ArgumentShapeError):
        w.set_value(DeviceArray.upload(first, np.ones((2, 2))))
    r = shared(np.ones((1, 3)), broadcastable=(True, False), target="cuda")
    with pytest.raises(ArgumentShapeError, match="axis 0 must have size 1"):
        r.set_value(DeviceArray.upload(first, np.ones((2, 3))))
    here = shared(np.zeros(2))
    here.set_value(given)
    np.testing.assert_array_equal(here.get_value(), given.numpy())
    np.testing.assert_array_equal(shared(given).get_value(), given.numpy())


def test_moves(two_devices: Devices) -> None:
    w = shared(np.arange(3.0))
    for device in ("cuda", "cuda:1", "cuda:1", "cpu", "gpu1", "cpu"):
        assert w.to(device) is w
        np.testing.assert_array_equal(w.get_value(), [0.0, 1.0, 2.0])
    assert w.device == "cpu"
    f = function([], w * 2)
    np.testing.assert_array_equal(f(), [0.0, 2.0, 4.0])
    with pytest.raises(MixedDevicesError, match=r"used by function \(built for cpu\)"):
        w.to("cuda")
    del f
    assert w.to("cuda").device == "cuda:0"
    w.eval()
    assert w.to("cpu").device == "cpu"  # what eval() keeps does not hold it


def test_a_variable_is_free_when_its_functions_are_gone(two_devices: Devices) -> None:
    w = shared(np.arange(3.0), name="w")
    f = function([], w.sum(), updates={w: w + 1})
    f()
    with pytest.raises(MixedDevicesError):
        function([], w.sum(), device="cuda")
    del f
    g = function([], w.sum(), updates={w: w + 1}, device="cuda")
    assert g() == 6.0
    with pytest.raises(MixedDevicesError):
        w.to("cpu")
    gc.disable()  # memory on a device goes with the function, not with the next collection
    try:
        gone = weakref.ref(g)
        del g
        assert gone() is None
    finally:
        gc.enable()
    assert w.to("cpu").get_value().tolist() == [2.0, 3.0, 4.0]
    assert function([], w.sum())() == 9.0


def test_copies(two_devices: Devices) -> None:
    w = shared(np.arange(3.0), name="w", target="cuda")
    same, apart = copy.copy(w), copy.deepcopy(w)
    w.set_value([5.0])
    assert same.get_value().tolist() == [5.0]
    assert apart.get_value().tolist() == [0.0, 1.0, 2.0]
    assert apart.device == "cuda:0"
    assert (apart.name, apart.type) == (w.name, w.type)


def test_pickles_hold_the_value(two_devices: Devices) -> None:
    w = shared(np.arange(3.0), name="w", target="cuda")
    text = pickle.dumps({"w": w, "twice": w * 2, "cell": w.container})
    loaded = pickle.loads(text)
    assert loaded["w"].device == "cpu"
    assert loaded["cell"].get().tolist() == [0.0, 1.0, 2.0]
    assert loaded["twice"].eval().tolist() == [0.0, 2.0, 4.0]
    with config.change(device="cuda:1"):
        again = pickle.loads(text)["w"]
    assert again.device == "cuda:1"
    assert again.get_value().tolist() == [0.0, 1.0, 2.0]


def test_updates_swap_and_keep_their_places(two_devices: Devices) -> None:
    a, b = shared(np.zeros(3), "a", target="cuda"), shared(np.ones(3), "b", target="cuda")
    f = function([], [a.sum(), b.sum()], updates=[(a, b), (b, a)])
    assert f() == [0.0, 3.0]
    assert f() == [3.0, 0.0]
    g = function([], [], updates={a: T.concatenate([a, b])})
    g()
    assert a.get_value().tolist() == [0.0] * 3 + [1.0] * 3
    assert (a.device, b.device) == ("cuda:0", "cuda:0")


def test_random_streams_live_where_their_functions_are(two_devices: Devices) -> None:
    drawn: dict[str, Any] = {}
    for device in ("cpu", "cuda"):
        streams = RandomStreams(7)
        u = streams.uniform((5,))
        f = function([], u, device=device)
        drawn[device] = [f(), f()]
        state = u.rng
        assert state.device == ("cpu" if device == "cpu" else "cuda:0")
        kept = state.get_value()
        third = f()
        words = state.get_value(borrow=True)  # Theano's way to begin again
        words.seed(3)
        state.set_value(words)
        drawn[device].append(f())
        state.set_value(kept)
        np.testing.assert_array_equal(f(), third)
        drawn[device].append(copy.deepcopy(state).get_value())
        state.seed(11)
        drawn[device].append(f())
        assert pickle.loads(pickle.dumps(state)).get_value().tolist() == state.get_value().tolist()
    for here, there in zip(drawn["cpu"], drawn["cuda"], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-15)


def test_optimisers_keep_their_state_there(two_devices: Devices) -> None:
    def trained(device: str) -> Any:
        x, w = T.dmatrix("x"), shared(np.arange(3.0), "w")
        f = function([x], [], updates=adam(((T.dot(x, w) - 1) ** 2).sum(), [w]), device=device)
        for _ in range(3):
            f(np.ones((4, 3)))
        assert {variable.device for variable in f.get_shared()} == {w.device}
        return w.get_value()

    np.testing.assert_allclose(trained("cuda"), trained("cpu"), rtol=1e-12)
