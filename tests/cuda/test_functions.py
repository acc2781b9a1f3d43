"""Functions on a device: where they run, what they take and give, and what can be asked of them.

The device is the host's; its memory is apart from NumPy's arrays, and what is not on it is refused.
"""

import copy
import os
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import In, Out, config, function, scan, shared
from symtensor.ifelse import ifelse
from symtensor.printing import Print
from symtensor.settings import Config
from symtensor.shared_variables import ArgumentShapeError
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.compiling import nvrtc
from symtensor_codegen.cuda.compiling.compile import CompilerMissingError
from symtensor_codegen.cuda.errors import DeviceError
from symtensor_codegen.errors import DTypeError, MixedDevicesError, OutOfRangeError, ShapeError, UserError
from tests.cuda.host import HostDevice

pytestmark = pytest.mark.cuda_host
Devices = tuple[HostDevice, HostDevice]
X = np.arange(12.0).reshape(4, 3)


def on(device: HostDevice, values: Any) -> DeviceArray:
    return DeviceArray.upload(device, np.asarray(values, np.float64))


def step(**options: Any) -> tuple[Any, Any]:
    """One step of a linear fit, and its weights."""
    x, w = T.dmatrix("x"), shared(np.arange(3.0), name="w")
    cost = (T.tanh(T.dot(x, w)) ** 2).sum()
    return function([x], cost, updates={w: w - 0.1 * T.grad(cost, w)}, name="step", **options), w


# Where a function runs -----------------------------------------------------------------------------------------


def test_the_device_is_the_argument(two_devices: Devices) -> None:
    x = T.dvector("x")
    for given, name in (("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("gpu", "cuda:0"), ("cpu", "cpu"), (None, "cpu")):
        f = function([x], x * 2, device=given)
        assert f.device == name
        assert repr(f) == "<function function(x): 1 output" + ("" if name == "cpu" else f", on {name}") + ">"
        np.testing.assert_array_equal(f([1.0, 2.0]), [2.0, 4.0])


def test_a_variable_is_where_its_value_is(two_devices: Devices) -> None:
    """Unless it is told otherwise."""
    there = on(two_devices[1], [1, 2, 3])
    v = shared(there, "v")
    assert v.device == "cuda:1"
    assert function([], v * 2).device == "cuda:1"
    np.testing.assert_array_equal(v.get_value(), [1, 2, 3])
    assert shared(there, target="cpu").device == "cpu"
    assert shared(there, target="cuda:0").device == "cuda:0"
    assert shared(np.ones(3)).device == "cpu"
    x = T.dvector("x")
    with pytest.raises(MixedDevicesError, match="build the function with device='cuda:1'"):
        function([x], x * 2, device="cpu")(there)


def test_or_that_of_the_shared_variables(two_devices: Devices) -> None:
    w = shared(np.ones(3), target="cuda:1")
    assert function([], w * 2).device == "cuda:1"
    with config.change(device="cuda"):
        assert function([], w * 2).device == "cuda:1"
    assert function([], shared(1.0) * 2).device == "cpu"


def test_or_the_setting(two_devices: Devices) -> None:
    x = T.dvector("x")
    with config.change(device="cuda:1"):
        assert function([x], x * 2).device == "cuda:1"
        assert (shared(np.ones(3)) * 2).eval().tolist() == [2.0, 2.0, 2.0]
    assert len(two_devices[1].launches) == 1


def test_evaluations_follow_the_setting(two_devices: Devices) -> None:
    x = T.dvector("x")
    y = x * 2
    for device, launches in (("cpu", 0), ("cuda", 1), ("cpu", 1), ("cuda", 2)):
        with config.change(device=device):
            y.eval({x: [1.0, 2.0]})
        assert len(two_devices[0].launches) == launches


def test_gradient_checks_follow_the_setting(two_devices: Devices) -> None:
    from symtensor.tensor import verify_grad

    with config.change(device="cuda"):
        verify_grad(T.tanh, [X], rng=np.random.default_rng(0))
    assert two_devices[0].launches


@pytest.mark.parametrize(
    ("flags", "device"),
    [("device=gpu", "cuda"), ("device=cuda0", "cuda"), ("device=gpu1", "cuda:1"), ("device=cpu", "cpu"), ("", "cpu"),
     ("device=cuda,floatX=float32", "cuda"), ("device=opencl0:0", "cpu")],
)  # fmt: skip
def test_theanos_flags(flags: str, device: str) -> None:
    assert Config("", flags).device == device
    assert Config("device=cuda:3", flags).device == "cuda:3"


def test_the_precision_of_products_is_a_setting(two_devices: Devices) -> None:
    assert config.matmul_precision == "float32"
    a, b = T.fmatrix("a"), T.fmatrix("b")
    with config.change(matmul_precision="tf32", device="cuda"):
        f = function([a, b], T.dot(a, b))
    ones = np.ones((3, 3), np.float32)
    np.testing.assert_array_equal(f(ones, ones), 3 * ones)


# Arguments and results -----------------------------------------------------------------------------------------


def test_results_are_those_of_the_cpu(two_devices: Devices) -> None:
    here, w = step()
    there, v = step(device="cuda")
    for _ in range(3):
        np.testing.assert_allclose(there(X), here(X), rtol=1e-12)
    np.testing.assert_allclose(v.get_value(), w.get_value(), rtol=1e-12)


@pytest.mark.parametrize("mode", ["fast_compile", "debug", "nan_guard", "reference"])
def test_modes(two_devices: Devices, mode: str) -> None:
    here, w = step(mode=mode)
    there, v = step(mode=mode, device="cuda")
    for _ in range(2):
        np.testing.assert_allclose(there(X), here(X), rtol=1e-12)
    np.testing.assert_allclose(v.get_value(), w.get_value(), rtol=1e-12)
    assert bool(two_devices[0].launches) is (mode != "reference")


@pytest.mark.parametrize("mode", ["fast_run", "debug", "reference"])
def test_forms_of_results(two_devices: Devices, mode: str) -> None:
    x = T.dvector("x")
    options: Any = {"device": "cuda", "mode": mode}
    assert type(function([x], x.sum(), **options)([1.0, 2.0])) is np.ndarray
    assert function([x], [x.sum()], **options)([1.0, 2.0]) == [3.0]
    assert function([x], {"b": x.sum(), "a": x.max()}, **options)([1.0, 2.0]) == {"a": 2.0, "b": 3.0}
    assert function([x], [], on_unused_input="ignore", **options)([1.0]) == []
    assert function([x], None, on_unused_input="ignore", **options)([1.0]) == []


def test_results_may_stay_on_the_device(two_devices: Devices) -> None:
    x = T.dvector("x")
    f = function([x], [x + 1, Out(x + 2, borrow=True)], device="cuda")
    first, second = f([1.0, 2.0])
    assert type(first) is np.ndarray
    assert type(second) is DeviceArray
    assert second.device is two_devices[0]
    np.testing.assert_array_equal(second, [3.0, 4.0])
    g = function([x], {"a": x + 1}, device="cuda", results="device")
    found = g(second)["a"]
    assert type(found) is DeviceArray
    np.testing.assert_array_equal(found.numpy(), [4.0, 5.0])
    assert type(function([x], x + 1, device="cuda", results="device")(found)) is DeviceArray
    assert type(function([x], x + 1, results="device")([1.0])) is np.ndarray  # where it is


def test_a_result_is_new_memory(two_devices: Devices) -> None:
    w = shared(np.arange(3.0), target="cuda")
    f = function([], Out(w, borrow=True), updates={w: w + 1})
    first, second = f(), f()
    np.testing.assert_array_equal(first, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(second, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(w.get_value(), [2.0, 3.0, 4.0])


def test_arguments_are_taken_as_on_the_cpu(two_devices: Devices) -> None:
    x, n = T.dvector("x"), T.iscalar("n")
    f = function([x, In(n, value=2)], x * n, device="cuda")
    for value in ([1.0, 2.0], (1, 2), np.array([1.0, 2.0], np.float32), np.array([1, 9, 2, 9], np.int8)[::2]):
        np.testing.assert_array_equal(f(value), [2.0, 4.0])
    np.testing.assert_array_equal(f([1.0], 5), [5.0])
    np.testing.assert_array_equal(f(n=np.int8(3), x=[1.0]), [3.0])
    np.testing.assert_array_equal(f(on(two_devices[0], [1.0]), 5), [5.0])
    np.testing.assert_array_equal(f(np.empty(0)), [])
    loose = function([n], n + 1, device="cuda", allow_input_downcast=True)
    assert loose(2.7) == 3


def test_arguments_are_refused_as_on_the_cpu(two_devices: Devices) -> None:
    x, r = T.dvector("x"), T.row("r", dtype="float64")
    f = function([x, r], x * 2 + r, device="cuda")
    with pytest.raises(ArgumentShapeError, match=r"input x .*expected 1 dimension"):
        f(X, X[:1])
    with pytest.raises(DTypeError, match=r"input x .*without loss"):
        f(np.ones(3, np.complex64), X[:1])
    with pytest.raises(ArgumentShapeError, match="axis 0 must have size 1"):
        f([1.0, 2.0, 3.0], X)
    with pytest.raises(TypeError, match="is missing"):
        f([1.0])
    with pytest.raises(DTypeError, match="arrays on a device are not converted"):
        f(DeviceArray.upload(two_devices[0], np.ones(3, np.float32)), X[:1])
    with pytest.raises(ArgumentShapeError, match="of shape"):
        f(on(two_devices[0], X), X[:1])
    with pytest.raises(ArgumentShapeError, match="axis 0 must have size 1"):
        f([1.0, 2.0, 3.0], on(two_devices[0], X))


def test_print(two_devices: Devices, capsys: pytest.CaptureFixture[str]) -> None:
    x = T.dvector("x")
    f = function([x], Out(Print("x")(x) * 2, borrow=True), device="cuda")
    assert type(f([1.0, 2.0])) is DeviceArray
    assert "x __str__ = [1. 2.]" in capsys.readouterr().out


# Failing calls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast_run", "debug"])
def test_failures_speak_of_the_users_program(two_devices: Devices, mode: str) -> None:
    x, i, w = T.dvector("x"), T.lscalar("i"), shared(np.zeros(3), "w")
    f = function([x, i], x[i], updates={w: w + x}, device="cuda", mode=mode)
    with pytest.raises(OutOfRangeError, match=r"at test_functions.py:\d+: index 7 \(i .*axis 0, of size 3: x"):
        f([1.0, 2.0, 3.0], 7)
    with pytest.raises(ShapeError, match=r"sizes on axis 0 do not agree.*operands: w: .*x: "):
        f([1.0, 2.0], 1)
    np.testing.assert_array_equal(w.get_value(), np.zeros(3))
    f([1.0, 2.0, 3.0], 2)
    np.testing.assert_array_equal(w.get_value(), [1.0, 2.0, 3.0])


def test_failures_inside_loops(two_devices: Devices) -> None:
    x, rows = T.dvector("x"), T.lvector("rows")
    picked, _ = scan(lambda i: x[i], sequences=rows)
    f = function([x, rows], picked, device="cuda")
    with pytest.raises(OutOfRangeError, match=r"index 4 .*in step 1"):
        f([1.0, 2.0], [1, 4])
    with pytest.raises(OutOfRangeError, match="index 5"):
        f(on(two_devices[0], [1.0, 2.0]), [5, 0])


# Loops and branches --------------------------------------------------------------------------------------------


def test_loops_and_branches(two_devices: Devices) -> None:
    x, n, c = T.dvector("x"), T.iscalar("n"), T.iscalar("c")
    last, _ = scan(lambda a: T.tanh(a) + 1, outputs_info=x, n_steps=n)
    chosen = ifelse(T.gt(c, 0), x.sum(), x[5])
    here, there = (function([x, n, c], [last, chosen], device=d) for d in ("cpu", "cuda"))
    for count in (1, 3, 8):
        for got, want in zip(there([0.1, 0.2], count, 1), here([0.1, 0.2], count, 1), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)


def test_loops_are_made_faster_for_the_sizes_of_the_first_call(two_devices: Devices) -> None:
    x = T.dvector("x")
    last, _ = scan(lambda a: T.tanh(a) + a[::-1], outputs_info=x, n_steps=5)
    f, reference = (function([x], last[-1], device=d) for d in ("cuda", "cpu"))
    assert not f.compilation.plan.fast
    want = f([0.1, 0.2])
    assert f.compilation.plan.fast
    np.testing.assert_array_equal(f([0.1, 0.2]), want)
    for values in ([0.1, 0.2], [0.1, 0.2, 0.3]):
        np.testing.assert_allclose(f(values), reference(values), rtol=1e-12)


def test_loops_over_elements_do_not_ask_for_sizes(two_devices: Devices) -> None:
    x = T.dvector("x")
    last, _ = scan(lambda a: T.tanh(a) + 1, outputs_info=x, n_steps=5)
    f = function([x], last[-1], device="cuda")
    assert not f.compilation.plan.special
    np.testing.assert_array_equal(f([0.1, 0.2, 0.3])[:2], f([0.1, 0.2]))


# What can be asked ---------------------------------------------------------------------------------------------


def test_sources_and_reports(two_devices: Devices) -> None:
    f, _ = step(device="cuda")
    assert "__global__" in f.source("cuda")
    assert "for " in f.source("loops")
    assert "launch" in f.source("program")
    text = f.explain()
    assert "kernels compiled for sm_90" in text
    assert "registers" in text
    assert "returned" in f.memory
    with pytest.raises(UserError, match=r"source\(\) takes .*'cuda'.*, not 'llvm'"):
        f.source("llvm")


def test_memory_that_is_kept_for_the_next_call_can_be_freed(two_devices: Devices) -> None:
    f, _ = step(device="cuda")
    f(X)
    assert f._compilation.native.runner.recordings
    f.free()
    assert not f._compilation.native.runner.recordings
    f(X)


def test_times_of_every_kernel(two_devices: Devices) -> None:
    f, _ = step(device="cuda", profile=True)
    f(X)
    f(X)
    assert f.profile.calls == 2
    assert all(one.calls == 2 and one.seconds > 0 for one in f.profile.steps)
    assert f.profile.seconds >= sum(one.seconds for one in f.profile.steps)
    assert "us a call" in str(f.profile)
    f.profile.reset()
    assert f.profile.calls == 0


def test_copies_and_pickles(two_devices: Devices) -> None:
    f, w = step(device="cuda")
    g = f.copy(name="other")
    assert (g.device, g.name) == ("cuda:0", "other")
    deep = copy.deepcopy(f)
    (v,) = deep.get_shared()
    assert (deep.device, v.device) == ("cuda:0", "cuda:0")
    assert v is not w
    text = pickle.dumps(f)
    loaded = pickle.loads(text)
    assert loaded.device == "cpu"
    with config.change(device="cuda:1"):
        there = pickle.loads(text)
    assert (there.device, there.get_shared()[0].device) == ("cuda:1", "cuda:1")
    want = f(X)
    for other in (deep, loaded, there):
        np.testing.assert_allclose(other(X), want, rtol=1e-12)


def test_stages_are_dumped(
    two_devices: Devices, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYMTENSOR_DUMP", "cuda,llvm")
    step(device="cuda")
    told = capsys.readouterr().err
    assert "__global__" in told
    assert "(no llvm of a function on cuda:0)" in told


# Without a device ----------------------------------------------------------------------------------------------


def test_code_for_an_architecture_can_be_read() -> None:
    try:
        f, w = step(device="cuda:sm_90")
    except CompilerMissingError as missing:
        pytest.skip(str(missing))
    assert w.device == "cpu"
    assert "__global__" in f.source("cuda")
    assert ".target sm_90" in f.source("ptx")
    assert "compiled for sm_90" in f.explain()
    with pytest.raises(DeviceError, match="step was compiled for sm_90 to be read, not run"):
        f(X)


SEPARATE = """
import sys
import numpy as np
import symtensor, symtensor.tensor as T
assert not [m for m in sys.modules if m.startswith("symtensor_codegen.cuda")], "imported with symtensor"
from symtensor_codegen.cuda import device
from tests.cuda.host import host_device
device.use(host_device())
x = T.dmatrix("x")
w = symtensor.shared(np.ones(3), target="cuda")
f = symtensor.function([x], T.tanh(T.dot(x, w)).sum(), updates={w: w + 1}, device="cuda")
f(np.ones((4, 3)))
assert not [m for m in sys.modules if m.partition(".")[0] in ("llvmlite", "scipy_openblas32", "pycuda")]
"""


def test_no_library_of_the_cpu_backend_is_loaded() -> None:
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", SEPARATE], env={**os.environ, "PYTHONPATH": path}, check=True)


def test_the_text_of_kernels_tells_what_they_are() -> None:
    """What is computed, with the user's names and lines; what each number is; what all have in common, once."""
    x, b = T.fmatrix("x"), T.fvector("b")
    shares = T.nnet.softmax(x * np.float32(0.9) + b)
    shares.name = "shares"
    text = function([x, b], [shares, x.T.sum(axis=0).cumsum()], device="cuda:sm_90").source("cuda")
    heads = [line for line in text.splitlines() if line.startswith("// k")]
    head = next(head for head in heads if head.startswith("// k0_softmax"))
    assert re.search(r": shares = softmax of .*\(test_functions.py:\d+\)", head)
    assert "//   p0 = x.shape[0]\n//   p1 = x.shape[1]\n" in text
    assert re.search(r"//   p\d = 0\.9, as bits\n", text)
    assert "status: where a failed check leaves its number" in text
    assert text.count("typedef float f32") == 1
    assert text.count("__global__") > 1


def test_what_kernels_take_is_known_from_compiling_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x = T.fmatrix("x")
    compile_text, compiled = nvrtc.compile_text, []

    def noted(*arguments: Any) -> Any:
        compiled.append(arguments)
        return compile_text(*arguments)

    monkeypatch.setattr(nvrtc, "compile_text", noted)
    f = function([x], [T.tanh(x) / 7.25, (x * 7.25).sum(axis=1)], device="cuda:sm_90")
    before = len(compiled)
    assert re.search(r"^k0_\w+_0 .* +\d+ +0 +\d+$", f.explain(), re.MULTILINE)
    assert len(compiled) == before
