"""Examples of every operation, made from its record, and how close results must come.

The op suite, gradient checks and other backends' suites draw on these; a new op is tested without touching a
test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError

from .graph import Tensor, variable
from .opdef import Domain, OpDef
from .reference import evaluate
from .types import TensorType

Array = npt.NDArray[Any]

# Sizes of the operands of elementwise ops, by their number: odd, empty, 0-d, broadcast in front and behind.
SHAPES: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
    1: (((17,),), ((3, 5),), ((),), ((0,),), ((2, 1, 3),)),
    2: (((17,), (17,)), ((3, 5), (5,)), ((3, 1), (1, 4)), ((), (3,)), ((0,), (0,)), ((), ())),
    3: (((17,), (17,), (17,)), ((3, 5), (5,), (3, 1)), ((), (4,), ()), ((0, 3), (3,), ())),
}
EDGES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0)
DEFAULT = Domain()


@dataclass(frozen=True, eq=False)
class Case:
    """One example: the operation, its input arrays and its parameters."""

    op: OpDef
    arrays: tuple[Array, ...]
    params: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        operands = "-".join(f"{a.dtype}{list(a.shape)}".replace(" ", "") for a in self.arrays)
        params = "-".join(f"{key}={value}" for key, value in self.params.items())
        return f"{self.op.name}[{operands}{'-' if params else ''}{params}]"

    def variables(self) -> list[Tensor]:
        """Input variables for the arrays; sizes of 1 are known, others are not."""
        return [
            variable(TensorType(a.dtype, tuple(1 if size == 1 else None for size in a.shape)))
            for a in self.arrays
        ]

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """The operation on these inputs, which are converted as a user's are."""
        return self.op(*inputs, **self.params)


def expected(expression: Tensor, inputs: Sequence[Tensor], arrays: Sequence[Array]) -> Array:
    """What an expression must give; its inferred element type and sizes are checked on the way."""
    return evaluate([expression], dict(zip(inputs, arrays, strict=True)))[0]


# Examples --------------------------------------------------------------------------------------------------


def cases_of(op: OpDef, seed: int = 0) -> list[Case]:
    """Examples of one operation: those of its record, or for elementwise ops drawn from its domains.

    Elementwise ops get every element type they take on vectors of 17 (a remainder for every vector width),
    and all sizes in the first floating type they take.
    """
    rng = np.random.default_rng([seed, *op.name.encode()])
    if op.cases is not None:
        return [Case(op, tuple(np.asarray(a) for a in arrays), params) for arrays, params in op.cases(rng)]
    if not op.is_elementwise:
        return []
    shapes = SHAPES[len(op.domains)]
    taken = [dtype for dtype in dtypes.ALL if takes(op, dtype)]
    main = next((d for d in (dtypes.float64, dtypes.complex128, dtypes.int64) if d in taken), None)
    made = [Case(op, draw(op.domains, dtype, shapes[0], rng)) for dtype in taken]
    if main is not None:
        made += [Case(op, draw(op.domains, main, shape, rng)) for shape in shapes[1:]]
    return made


def takes(op: OpDef, dtype: DType) -> bool:
    """Whether an elementwise operation accepts operands of this element type."""
    try:
        op(*[variable(TensorType(dtype, ())) for _ in op.domains])
    except DTypeError:
        return False
    return True


def draw(
    domains: Iterable[Domain], dtype: DType, shapes: Iterable[tuple[int, ...]], rng: np.random.Generator
) -> tuple[Array, ...]:
    """Random operands, each in its domain."""
    return tuple(_draw(domain, dtype, shape, rng) for domain, shape in zip(domains, shapes, strict=True))


def _draw(domain: Domain, dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if dtype is dtypes.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_integer:
        low, high = (-20, 20) if domain == DEFAULT else (int(np.ceil(domain.low)), int(np.floor(domain.high)))
        if dtype.kind == "u":
            low, high = max(low, 0), max(high, 1)
        return np.asarray(rng.integers(low, high, endpoint=True, size=shape)).astype(dtype.numpy)
    values = rng.uniform(domain.low, domain.high, shape)
    if dtype.is_complex:
        values = values + 1j * rng.uniform(domain.low, domain.high, shape)
    return np.asarray(values).astype(dtype.numpy)


def edge_case(op: OpDef, dtype: DType) -> Case:
    """Every combination of NaN, infinities, zeros and small numbers, or of extreme integers, as operands."""
    edges = np.asarray(EDGES if dtype.is_float else integer_edges(dtype), dtype.numpy)
    grids = np.meshgrid(*[edges] * len(op.domains), indexing="ij")
    return Case(op, tuple(grid.ravel() for grid in grids))


def integer_edges(dtype: DType) -> list[int]:
    """The smallest and largest integers of the type, and small ones of both signs where it has them."""
    limits = np.iinfo(dtype.numpy)
    small = [0, 1, 2, 3, 7] if dtype.kind == "u" else [-7, -3, -2, -1, 0, 1, 2, 3, 7]
    return [int(limits.min), *small, int(limits.max)]


def restrided(array: Array) -> Array:
    """The same values in memory that is read backwards with gaps."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype) if array.ndim else array
    if not array.ndim:
        return array
    turned = wide[..., ::-2]
    turned[...] = array
    return turned


# Closeness -------------------------------------------------------------------------------------------------


def assert_close(got: Array, want: Array, case: Case) -> None:
    """Same element type, same shape, and values within the tolerance of the operation.

    Elementwise results may differ by ``op.tolerance`` units in the last place of each element; others by as
    many of the largest number involved.
    """
    assert got.dtype == want.dtype, f"{case}: {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{case}: shape {got.shape}, expected {want.shape}"
    if want.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, want, err_msg=str(case))
        return
    unit = np.finfo(want.dtype).eps
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    got, want = got.astype(wide), want.astype(wide)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=str(case))
    scale = np.abs(want[finite])
    if not case.op.is_elementwise and scale.size:
        floats = [np.abs(a[np.isfinite(a)]).max() for a in case.arrays if a.dtype.kind in "fc" and a.size]
        scale = np.full_like(scale, max([scale.max(), *[float(f) for f in floats]]))
    error = np.abs(got[finite] - want[finite])
    allowed = case.op.tolerance * unit * np.maximum(scale, np.finfo(unit.dtype).tiny)
    worst = float(np.max(error / allowed, initial=0))
    assert worst <= 1, (
        f"{case}: {worst * case.op.tolerance:.1f} units in the last place, {case.op.tolerance} allowed"
    )


# Gradients -------------------------------------------------------------------------------------------------


def differentiable(case: Case) -> list[int]:
    """Numbers of the float64 inputs whose gradient can be compared with differences."""
    if case.op.gradient is None or case.apply(case.variables()).element is not dtypes.float64:
        return []
    return [k for k, a in enumerate(case.arrays) if a.dtype == np.float64 and np.isfinite(a).all()]


def check_gradient(case: Case, order: int = 1, step: float = 1e-5, tolerance: float = 2e-5) -> None:
    """Compare the gradient of a random combination of the results with central differences of its value.

    Order 2 does the same with a random combination of first gradients.
    """
    from .differentiation import grad

    rng = np.random.default_rng(len(case.op.name))
    inputs, wanted = case.variables(), differentiable(case)
    value = case.apply(inputs)
    known = dict(zip(inputs, case.arrays, strict=True))
    wrt = [inputs[k] for k in wanted]
    for _ in range(order):
        value = _combination(value, known, rng)
        slopes: list[Tensor] = grad(value, wrt, disconnected_inputs="ignore")
        before, value = value, _sum([_combination(slope, known, rng) for slope in slopes])
    found = evaluate(slopes, known)
    for k, slope in zip(wanted, found, strict=True):
        array = case.arrays[k].copy()
        for index in np.ndindex(array.shape):
            there = []
            for moved in (array[index] + step, array[index] - step):
                array[index], kept = moved, array[index]
                there.append(float(evaluate([before], {**known, inputs[k]: array})[0]))
                array[index] = kept
            difference = (there[0] - there[1]) / (2 * step)
            assert abs(difference - slope[index]) <= tolerance * max(1.0, abs(difference)), (
                f"{case}, input {k} at {index}: gradient {slope[index]}, difference {difference} ({order=})"
            )


def _combination(value: Tensor, known: dict[Tensor, Array], rng: np.random.Generator) -> Tensor:
    from .graph import constant
    from .ops.reduction import sum as sum_of

    sizes = evaluate([value], known)[0].shape
    return sum_of(value * constant(rng.uniform(0.5, 1.5, sizes)))


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
