"""Elementwise operations: what their records' random cases do not show."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.differentiation import grad
from symtensor.reference import evaluate
from symtensor.settings import config
from symtensor_codegen.errors import DTypeError, ShapeError


def value(expression, **known):
    return evaluate([expression], {VARIABLES[name]: array for name, array in known.items()})[0]


x, y = T.dvector("x"), T.dvector("y")
a, m = T.dscalar("a"), T.dmatrix("m")
z, i, j, p = T.zvector("z"), T.ivector("i"), T.ivector("j"), T.TensorType("bool", (None,))("p")
VARIABLES = {v.name: v for v in (x, y, a, m, z, i, j, p)}


def slope(expression, at, wrt=a):
    return evaluate([grad(expression, wrt)], {wrt: at})[0]


# Integers --------------------------------------------------------------------------------------------------


def test_integer_division_floors_and_survives_zero() -> None:
    np.testing.assert_array_equal(value(i // j, i=[-7, 7, 5], j=[2, 2, 0]), [-4, 3, 0])
    np.testing.assert_array_equal(value(i % j, i=[-7, 7, 5], j=[3, -3, 0]), [2, -2, 0])
    np.testing.assert_array_equal(value(i / j, i=[-7, 7, 5], j=[2, 4, 0]), [-3.5, 1.75, np.inf])


def test_divmod() -> None:
    quotient, remainder = divmod(i, 3)
    assert value(quotient, i=[-7])[0] == -3
    assert value(remainder, i=[-7])[0] == 2


def test_bits() -> None:
    np.testing.assert_array_equal(value(~i, i=[0, 5]), [-1, -6])
    np.testing.assert_array_equal(value(~p, p=[True, False]), [False, True])
    np.testing.assert_array_equal(value(i & 6 | 1, i=[7, 8]), [7, 1])
    np.testing.assert_array_equal(value(1 << i, i=[0, 4]), [1, 16])
    np.testing.assert_array_equal(value(T.logical_not(x), x=[0.0, 2.0]), [True, False])
    np.testing.assert_array_equal(
        value(T.and_(x > 0, y > 0, x > y), x=[2.0, 1.0], y=[1.0, 2.0]), [True, False]
    )
    with pytest.raises(DTypeError, match=r"bitwise_and does not take float64: x: .*y: "):
        x & y


# Floating point --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"), [(None, [-2, -0.0, 0, 2, 2]), ("half_away_from_zero", [-2, -1, 1, 2, 3])]
)
def test_halves_are_rounded(mode: str | None, expected: list[float]) -> None:
    np.testing.assert_array_equal(value(x.round(mode), x=[-1.5, -0.5, 0.5, 1.5, 2.5]), expected)


def test_the_largest_number_below_a_half_rounds_down() -> None:
    assert value(T.round(x, "half_away_from_zero"), x=[0.49999999999999994])[0] == 0


def test_unknown_rounding_mode() -> None:
    with pytest.raises(ValueError, match='round: mode must be "half_to_even" or "half_away_from_zero"'):
        T.round(x, "up")


@pytest.mark.parametrize("equal_nan", [False, True])
def test_isclose_is_numpys(equal_nan: bool) -> None:
    left = np.array([1, 1, np.nan, np.inf, np.inf, -np.inf, 0, 1e-9])
    right = np.array([1 + 1e-6, 1.1, np.nan, np.inf, 1, np.inf, 1e-9, 0])
    np.testing.assert_array_equal(
        value(T.isclose(x, y, equal_nan=equal_nan), x=left, y=right),
        np.isclose(left, right, equal_nan=equal_nan),
    )
    assert value(T.allclose(x, x), x=[1.0, 2.0])


def test_clip_with_one_bound() -> None:
    assert value(T.clip(x, None, 1), x=[2.0])[0] == 1
    assert value(x.clip(0, None), x=[-2.0])[0] == 0


def test_where_is_switch_or_nonzero() -> None:
    assert T.where(x > 0, x, 0) is T.switch(x > 0, x, 0)
    np.testing.assert_array_equal(value(T.where(x)[0], x=[0.0, 3.0, 0.0, 1.0]), [1, 3])


def test_any_number_is_a_condition() -> None:
    np.testing.assert_array_equal(value(T.switch(x, 1, 2), x=[0.0, -0.5, np.nan]), [2, 1, 1])


# Complex numbers -------------------------------------------------------------------------------------------


def test_parts_of_complex_numbers() -> None:
    numbers = np.array([3 + 4j, -1j, 0])
    np.testing.assert_array_equal(value(abs(z), z=numbers), [5, 1, 0])
    np.testing.assert_array_equal(value(z.real + z.imag, z=numbers), [7, -1, 0])
    np.testing.assert_array_equal(value(z.conj(), z=numbers), numbers.conj())
    np.testing.assert_allclose(
        value(T.complex_from_polar(abs(z), T.angle(z)), z=numbers), numbers, atol=1e-15
    )
    assert x.real is x
    assert T.conj(x) is x
    np.testing.assert_array_equal(value(x.imag, x=[1.0]), [0])


def test_complex_numbers_have_no_order_and_do_not_become_real() -> None:
    with pytest.raises(DTypeError, match="gt does not take complex128"):
        T.gt(z, 0)
    with pytest.raises(DTypeError, match="take real"):
        z.astype("float64")


# Sub-gradients (THEANO_SEMANTICS 27, 28) -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "at", "expected"),
    [
        (lambda v: T.maximum(v, 0), 0, 1),
        (lambda v: T.maximum(0, v), 0, 0),
        (lambda v: T.minimum(v, 0), 0, 1),
        (lambda v: T.minimum(0, v), 0, 0),
        (abs, 0, 0),
        (T.nnet.relu, 0, 0.5),
        (lambda v: T.nnet.relu(v, 0.2), 0, 0.6),
        (lambda v: T.clip(v, 0, 1), 0, 1),
        (lambda v: T.clip(v, 0, 1), 1, 1),
        (lambda v: T.clip(v, 0, 1), 2, 0),
        (lambda v: T.switch(v > 0, v, 0), 0, 0),
        (T.sqrt, 0, np.inf),
        (T.floor, 1.5, 0),
        (T.round, 1.5, 0),
        (T.sgn, 1.5, 0),
        (lambda v: T.cast(T.cast(v, "int32"), "float64"), 1.5, 0),
        (lambda v: T.cast(T.gt(v, 0), "float64"), 1.5, 0),
        (lambda v: v**2, 0, 0),
        (lambda v: v**1, 0, 1),
        (lambda v: v**0.0, 0, 0),
        (lambda v: v % 2, 3.5, 1),
        (lambda v: T.nnet.elu(v), 1000, 1),
    ],
)
def test_derivative_at_a_kink(function, at: float, expected: float) -> None:
    result = slope(function(a), at)
    assert result == expected


def test_both_arguments_equal() -> None:
    gx, gy = grad(T.maximum(x, y).sum(), [x, y])
    known = {x: [1.0, 2.0], y: [1.0, 1.0]}
    np.testing.assert_array_equal(evaluate([gx, gy], known), [[1, 1], [0, 0]])


def test_power_of_zero() -> None:
    gx, gy = grad((x**y).sum(), [x, y])
    np.testing.assert_array_equal(
        evaluate([gx, gy], {x: [0.0, 2.0], y: [2.0, 0.0]}), [[0, 0], [0, np.log(2)]]
    )


# Sizes -----------------------------------------------------------------------------------------------------


def test_known_sizes_that_differ() -> None:
    three, four = T.TensorType("float64", (3,))("three"), T.TensorType("float64", (4,))("four")
    with pytest.raises(ShapeError, match=r"add: sizes do not agree on axis -1: three: .*; four: "):
        three + four


def test_only_sizes_known_to_be_one_broadcast() -> None:
    """THEANO_SEMANTICS 1."""
    row = T.drow("row")
    assert (row + row.T).broadcastable == (False, False)
    assert evaluate([m + row], {m: np.ones((2, 3)), row: np.ones((1, 3))})[0].shape == (2, 3)
    with pytest.raises(ShapeError, match="add: sizes differ on axis -2"):
        evaluate([m + m.T], {m: np.ones((1, 3))})


def test_wrong_number_of_arguments() -> None:
    with pytest.raises(TypeError, match="exp takes 1 arguments, got 2"):
        T.exp(x, y)
    with pytest.raises(TypeError, match="switch takes a condition and two values, got 2"):
        T.switch(x, y)
    assert T.add(x, y, 1) is (x + y) + 1


# Methods ---------------------------------------------------------------------------------------------------


def test_numpy_builds_expressions() -> None:
    """THEANO_SEMANTICS 8."""
    assert np.exp(x) is T.exp(x)
    assert (np.float32(3) * T.fvector()).dtype == "float32"
    assert (np.ones(3) * x).type.shape == (3,)
    assert np.maximum(x, 0) is T.maximum(x, 0)
    assert np.sum(m, axis=0) is m.sum(axis=0)
    assert np.dot(x, y) is T.dot(x, y)
    assert sum([x, y]) is 0 + x + y
    with pytest.raises(TypeError, match=r"np.add.reduce does not take symbolic expressions"):
        np.add.reduce(x)
    with pytest.raises(TypeError, match="has no symbolic counterpart"):
        np.linalg.svd(m)


def test_identity_is_equality() -> None:
    """THEANO_SEMANTICS 6."""
    assert (x == y) is False
    assert (x != y) is True
    assert x in [y, x]
    assert {x: 1}[x] == 1
    assert x + y is x + y


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: bool(x > 0), "has no truth value before the program runs: use switch"),
        (lambda: x > 0 and y > 0, "has no truth value"),
        (lambda: len(x), "the length of x is not known"),
        (lambda: list(x), "x cannot be iterated"),
        (lambda: list(a), "a has no axes to iterate over"),
        (lambda: 1.0 in x, "whether x contains a value is not known"),
        (lambda: np.asarray(x), "x has no value before the program runs: it does not convert"),
        (lambda: float(a), "a has no value before the program runs"),
        (lambda: int(a), "a has no value before the program runs"),
        (lambda: range(i.shape[0]), "a symbolic size cannot be used here"),
        (lambda: x.__setitem__(0, 1), "expressions do not change: write y = set_subtensor"),
    ],
)
def test_expressions_have_no_value_yet(use, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        use()


def test_shapes_unpack() -> None:
    rows, columns = m.shape
    assert value(rows * 10 + columns, m=np.ones((2, 3))) == 23


def test_constants_have_a_number() -> None:
    assert T.constant(3.5).get_scalar_constant_value() == 3.5
    assert (T.constant(3) * 2).get_scalar_constant_value() == 6
    assert T.dcol().shape[1].get_scalar_constant_value() == 1
    with pytest.raises(ValueError, match="depends on variables"):
        (a + 1).get_scalar_constant_value()
    with pytest.raises(ValueError, match="several elements"):
        T.constant([1, 2]).get_scalar_constant_value()


# Softmax and cross-entropies -------------------------------------------------------------------------------


def test_softmax_of_large_numbers() -> None:
    np.testing.assert_allclose(value(T.nnet.softmax(x), x=[1000.0, 0.0, 1000.0]), [0.5, 0, 0.5])
    np.testing.assert_allclose(value(T.nnet.log_softmax(m), m=[[1000.0, 0.0]]), [[0, -1000]])
    np.testing.assert_allclose(value(T.nnet.softmax(m, axis=None), m=np.zeros((2, 2))), np.full((2, 2), 0.25))


def test_theanos_softmax_of_a_vector_is_a_row() -> None:
    """THEANO_SEMANTICS 33."""
    assert T.nnet.softmax(x).ndim == 1
    with config.change(cast_policy="theano"):
        assert T.nnet.softmax(x).broadcastable == (True, False)


def test_cross_entropies() -> None:
    probabilities = np.array([[0.2, 0.8], [0.5, 0.5]])
    labels = T.lvector("labels")
    picked = T.nnet.categorical_crossentropy(m, labels)
    np.testing.assert_allclose(evaluate([picked], {m: probabilities, labels: [1, 0]})[0], -np.log([0.8, 0.5]))
    full = T.nnet.categorical_crossentropy(m, T.constant(np.eye(2)[[1, 0]]))
    np.testing.assert_allclose(value(full, m=probabilities), -np.log([0.8, 0.5]))
    np.testing.assert_allclose(value(T.nnet.binary_crossentropy(x, y), x=[0.2], y=[1.0]), -np.log([0.2]))
    stable = T.nnet.sigmoid_binary_crossentropy(x, y)
    np.testing.assert_allclose(
        value(stable, x=[1000.0, -1000.0, 50.0], y=[0.0, 0.0, 1.0]), [1000, 0, np.exp(-50)]
    )
    t3 = T.dtensor3("t3")
    several = T.nnet.categorical_crossentropy(t3, T.constant([[0, 1]]))
    np.testing.assert_allclose(evaluate([several], {t3: probabilities[None]})[0], [-np.log([0.2, 0.5])])


def test_cross_entropy_of_wrong_labels() -> None:
    with pytest.raises(ShapeError, match="true_dist must have as many axes as coding_dist, or one less"):
        T.nnet.categorical_crossentropy(m, a)
    with pytest.raises(DTypeError, match="labels must be integers"):
        T.nnet.categorical_crossentropy(m, x)


def gelu_formula(v):
    return 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (T.nnet.elu, lambda v: np.where(v > 0, v, np.expm1(v))),
        (T.nnet.silu, lambda v: v / (1 + np.exp(-v))),
        (T.nnet.softsign, lambda v: v / (1 + abs(v))),
        (T.nnet.hard_sigmoid, lambda v: np.clip(0.2 * v + 0.5, 0, 1)),
        (lambda v: T.nnet.relu(v, 0.1), lambda v: np.where(v > 0, v, 0.1 * v)),
        (lambda v: T.nnet.gelu(v, approximate=True), gelu_formula),
    ],
)
def test_activations(function, expected) -> None:
    at = np.linspace(-4, 4, 17)
    np.testing.assert_allclose(value(function(x), x=at), expected(at), rtol=1e-12, atol=1e-12)


def test_approximations_are_near() -> None:
    at = np.linspace(-10, 10, 101)
    exact = 1 / (1 + np.exp(-at))
    assert abs(value(T.nnet.ultra_fast_sigmoid(x), x=at) - exact).max() < 0.03
    assert abs(value(T.nnet.gelu(x) - T.nnet.gelu(x, approximate=True), x=at)).max() < 1e-3


def test_selu_keeps_mean_and_variance() -> None:
    from scipy.stats import norm

    at = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    result = value(T.nnet.selu(x), x=at)
    assert abs(result.mean()) < 1e-3
    assert abs(result.var() - 1) < 1e-3


def test_two_level_softmax_adds_up() -> None:
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = (
        rng.normal(size=(4, 3)),
        rng.normal(size=3),
        rng.normal(size=(3, 4, 2)),
        rng.normal(size=(3, 2)),
    )
    at, target = rng.normal(size=(5, 4)), np.array([0, 5, 3, 2, 4])
    every = value(T.nnet.h_softmax(m, 5, 6, 3, 2, w1, b1, w2, b2), m=at)
    np.testing.assert_allclose(every.sum(axis=1), np.ones(5))
    chosen = value(T.nnet.h_softmax(m, m.shape[0], 6, 3, 2, w1, b1, w2, b2, target), m=at)
    np.testing.assert_allclose(chosen, every[np.arange(5), target])


def test_integer_quotients_rounded_up() -> None:
    np.testing.assert_array_equal(value(T.ceil_intdiv(i, 3), i=[-4, 6, 7]), [-1, 2, 3])
