"""A few long rows or columns, whose loops are launches of their own: all blocks share each of them.

The same expressions run on the CPU backend and as CUDA text on the CPU, cut apart whatever their sizes are.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor.tensor import nnet
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.compiling import compile
from symtensor_codegen.cuda.schedules import stages as schedules
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.schedules.stages import Stage
from tests.cuda.host import HostDevice, host_device

pytestmark = pytest.mark.cuda_host


def normalised(x: Any, axis: int) -> Any:
    return (x - x.mean(axis=axis, keepdims=True)) / T.sqrt(x.var(axis=axis, keepdims=True) + 1e-5)


def shares(x: Any) -> Any:
    return x / x.sum(axis=1, keepdims=True)


def classified(x: Any) -> list[Any]:
    """A loss with a check in it, and its gradient."""
    labels = T.constant(np.array([1, 0, 2]))
    cost = nnet.categorical_crossentropy(nnet.softmax(x[:3]), labels).mean()
    return [cost, T.grad(cost, x)]


MATRICES: dict[str, Callable[[Any], Any]] = {
    "softmax of rows": lambda x: nnet.softmax(x),
    "softmax of columns": lambda x: nnet.softmax(x, axis=0),
    "its logarithm": lambda x: nnet.logsoftmax(x),
    "with the maximum": lambda x: [nnet.softmax(x), x.max(axis=1)],
    "with places": lambda x: [nnet.softmax(x), x.argmax(axis=1), x.argmin(axis=1)],
    "normalised rows": lambda x: normalised(x, 1),
    "logsumexp": lambda x: T.logsumexp(x, axis=1),
    "unit rows": lambda x: x / T.sqrt((x**2).sum(axis=1, keepdims=True)),
    "of its own square": lambda x: nnet.softmax(T.dot(x, x.T)),
    "shares of counts": lambda x: shares(T.floor(x * 7).astype("int64") ** 2 + 1),
    "of halves": lambda x: nnet.softmax(x.astype("float16")),
    "a loss and its gradient": classified,
}  # fmt: skip
CUBES: dict[str, Callable[[Any], Any]] = {
    f"{name} along axis {axis}": lambda x, axis=axis, make=make: make(x, axis)
    for name, make in (
        ("softmax", lambda x, axis: nnet.softmax(x, axis=axis)),
        ("normalised", normalised),
        ("variance", lambda x, axis: x.var(axis=axis)),
    )
    for axis in range(3)
}


@pytest.fixture
def host() -> Iterator[HostDevice]:
    """The device, where every item with several loops is cut apart, and few iterations are worth a block."""
    found = host_device()
    devices.use(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "is_better_apart", lambda self, *_: self.form == "team" and len(self.split) > 1)
        patch.setattr(schedules, "LEAST_PART", 1)
        yield found
    devices.forget("cuda:0")
    compile.cubins(list(found.texts), "sm_90")


def check(make: Callable[[Any], Any], x: Any, value: np.ndarray[Any, Any]) -> Any:
    """The function for the device, whose results are those of the CPU."""
    made = make(x)
    made = made if isinstance(made, list) else [made]
    f, reference = function([x], made, device="cuda"), function([x], made, device="cpu")
    found, wanted = f(value), reference(value)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        tolerance = 2e-3 if other.dtype == np.float16 else 2e-5 if value.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    return f


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MATRICES)
def test_matrices(host: HostDevice, name: str, dtype: str) -> None:
    x = T.matrix("x", dtype=dtype)
    for shape in ((3, 1037), (3, 64), (33, 5)):
        f = check(MATRICES[name], x, np.random.default_rng(4).normal(size=shape).astype(dtype))
    assert "_apart_1" in f.explain()
    assert "_apart_1" in f.source("cuda")


@pytest.mark.parametrize("name", CUBES)
def test_cubes(host: HostDevice, name: str) -> None:
    x = T.tensor3("x", dtype="float32")
    for shape in ((2, 3, 1024), (2, 515, 4), (300, 2, 8)):
        check(CUBES[name], x, np.random.default_rng(5).normal(size=shape).astype(np.float32))


def test_all_blocks_share_each_loop() -> None:
    x = T.fmatrix("x")
    compiled = function([x], nnet.softmax(x), device="cuda:sm_90").compilation
    (kernel,) = compiled.plan.program.kernels()
    assert [stage.told for stage in schedule(kernel).stages] == ["team, a row each"]
    apart = schedule(kernel, apart=True)
    combining = ["team, a row each", "team, a column each"]
    assert [stage.told for stage in apart.stages] == [*combining, *combining, "nest, grid of 2 axes"]
    (blocks, parts, _), _ = apart.stages[0].shape((8, 1 << 20), 132) or pytest.fail("nothing is launched")
    assert blocks * parts > 132


@pytest.mark.parametrize(
    ("rows", "columns", "apart"),
    [(8, 1 << 20, True), (1, 1 << 16, True), (33, 1 << 16, True), (34, 1 << 20, False), (8, 1000, False),
     (4096, 1000, False), (1000, 100_000, False), (0, 1 << 20, False), (8, 0, False)],
)  # fmt: skip
def test_only_few_long_rows_are_cut(rows: int, columns: int, apart: bool) -> None:
    x = T.fmatrix("x")
    compiled = function([x], nnet.softmax(x), device="cuda:sm_90").compilation
    (kernel,) = compiled.plan.program.kernels()
    assert schedule(kernel).is_better_apart((rows, columns), 132) is apart
    assert not schedule(kernel, apart=True).is_better_apart((rows, columns), 132)


def test_a_call_with_such_sizes_compiles_the_variant_once() -> None:
    host = host_device()
    devices.use(host)
    try:
        x = T.fmatrix("x")
        f = function([x], nnet.softmax(x), device="cuda")
        f(np.ones((5, 7), np.float32))
        known = len(host.texts)
        assert "apart" not in f.explain()
        long = np.random.default_rng(6).normal(size=(1, 70_000)).astype(np.float32)
        reference = function([x], nnet.softmax(x), device="cpu")(long)
        for _ in range(3):  # recorded, captured, replayed
            np.testing.assert_allclose(f(long), reference, rtol=2e-5)
        assert len(host.texts) == known + 1
        np.testing.assert_allclose(f(np.ones((5, 7), np.float32)), np.full((5, 7), 1 / 7), rtol=1e-6)
        g = function([x], nnet.softmax(x), device="cuda")
        np.testing.assert_allclose(g(long), reference, rtol=2e-5)
        assert len(host.texts) == known + 1
    finally:
        devices.forget("cuda:0")
