"""What gradients are where mathematics leaves a choice, and what ``grad`` accepts: Theano's answers."""

import warnings
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, shared
from symtensor.differentiation import Lop, Rop, grad, hessian_vector_product, subgraph_grad
from symtensor.gradient import (
    DisconnectedInputError,
    DisconnectedType,
    NonDifferentiableError,
    NullType,
    NullTypeGradError,
    consider_constant,
    disconnected_grad,
    grad_clip,
    grad_not_implemented,
    grad_scale,
    grad_undefined,
    hessian,
    jacobian,
    undefined_grad,
    zero_grad,
)
from symtensor.graph import Tensor
from symtensor.opdef import OPS, OpDef, elementwise
from symtensor.reference import evaluate
from symtensor_codegen.errors import DTypeError, InternalError


def at(expression: Tensor, **values: Any) -> Any:
    """The value of an expression, by the names of its variables."""
    from symtensor.graph import leaves

    given = {leaf: values[leaf.name] for leaf in leaves([expression]) if leaf.name in values}
    return evaluate([expression], given)[0].tolist()


def slope(make: Any, value: Any) -> Any:
    """The derivative of the sum of an expression of one variable."""
    x = T.TensorType("float64", (None,) * np.ndim(value))("x")
    return at(grad(make(x).sum(), x), x=value)


# Points 26 to 28 of the observed semantics -------------------------------------------------------------

SUBGRADIENTS = {
    "max_all_ties": (lambda x: x.max(axis=0), [1.0, 3.0, 3.0], [0.0, 1.0, 1.0]),
    "min_all_ties": (lambda x: x.min(), [1.0, 1.0, 3.0], [1.0, 1.0, 0.0]),
    "maximum_first": (lambda x: T.maximum(x, 1.0), [1.0, 0.0, 2.0], [1.0, 0.0, 1.0]),
    "maximum_second": (lambda x: T.maximum(1.0, x), [1.0, 0.0, 2.0], [0.0, 0.0, 1.0]),
    "minimum_first": (lambda x: T.minimum(x, 1.0), [1.0, 0.0, 2.0], [1.0, 1.0, 0.0]),
    "abs": (lambda x: abs(x), [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
    "relu": (lambda x: T.nnet.relu(x), [-2.0, 0.0, 2.0], [0.0, 0.5, 1.0]),
    "maximum_of_zero": (lambda x: T.maximum(x, 0.0), [-2.0, 0.0, 2.0], [0.0, 1.0, 1.0]),
    "clip_at_bounds": (
        lambda x: T.clip(x, -1.0, 1.0),
        [-2.0, -1.0, 0.5, 1.0, 2.0],
        [0.0, 1.0, 1.0, 1.0, 0.0],
    ),
    "switch": (lambda x: T.switch(x > 0, x, 0.0), [-1.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
    "sqrt_at_zero": (lambda x: T.sqrt(x), [0.0, 4.0], [np.inf, 0.25]),
    "prod_one_zero": (lambda x: x.prod(), [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
    "prod_two_zeros": (lambda x: x.prod(), [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
    "floor": (lambda x: T.floor(x) + x, [0.5, 1.0], [1.0, 1.0]),
    "round": (lambda x: T.round(x) * x, [1.6], [2.0]),
    "int_cast": (lambda x: T.cast(x, "int32") * x, [2.7], [2.0]),
    "eq": (lambda x: T.eq(x, 1.0) * x, [1.0, 2.0], [1.0, 0.0]),
    "argmax": (lambda x: x[x.argmax()] * 2.0, [1.0, 5.0], [0.0, 2.0]),
    "shape": (lambda x: x * x.shape[0], [1.0, 5.0], [2.0, 2.0]),
    "repeated_index": (lambda x: x[np.array([0, 1, 1])], [1.0, 5.0], [1.0, 2.0]),
    "grad_clip_is_of_the_gradient": (lambda x: grad_clip(x, -1, 1) * 100.0, [3.0], [1.0]),
    "grad_scale": (lambda x: grad_scale(x, -2.0) ** 2, [3.0], [-12.0]),
}


@pytest.mark.parametrize("name", SUBGRADIENTS)
def test_subgradient(name: str) -> None:
    make, value, expected = SUBGRADIENTS[name]
    np.testing.assert_array_equal(slope(make, value), expected)


def test_norm_has_no_gradient_at_zero() -> None:
    with np.errstate(all="ignore"):
        assert np.isnan(slope(lambda x: x.norm(2), [0.0, 0.0])).all()


@pytest.mark.parametrize(
    "make", [T.floor, lambda x: T.eq(x, 1.0), lambda x: T.cast(x, "int64"), lambda x: x.argmax(), T.sgn]
)
def test_zero_gradient_is_no_error(make: Any) -> None:
    assert slope(make, [1.0, 2.0]) == [0.0, 0.0]


def test_condition_of_switch_is_connected() -> None:
    c, x = T.dvector("c"), T.dvector("x")
    assert at(grad(T.switch(c > 0, x, 0.0).sum(), c), c=[1.0, -1.0], x=[2.0, 3.0]) == [0.0, 0.0]


def test_what_is_connected_does_not_depend_on_rewriting() -> None:
    x = T.dvector("x")
    assert at(grad((x**0).sum(), x), x=[1.0, 2.0]) == [0.0, 0.0]
    assert at(Rop(x**0, x, x), x=[1.0, 2.0]) == [0.0, 0.0]
    assert at(Lop(x**0, x, x), x=[1.0, 2.0]) == [0.0, 0.0]
    assert at(jacobian(x**0, x), x=[1.0, 2.0]) == [[0.0, 0.0], [0.0, 0.0]]


def test_index_and_shape_are_disconnected() -> None:
    x, y = T.dvector("x"), T.dvector("y")
    with pytest.raises(DisconnectedInputError):
        grad(x[y.argmax()], y)
    with pytest.raises(DisconnectedInputError):
        grad((x * y.shape[0]).sum(), y)


def test_integer_variable_has_a_floating_point_gradient() -> None:
    n = T.lvector("n")
    g = grad((n * 1.5).sum(), n)
    assert g.dtype == "float64"
    assert at(g, n=[1, 2]) == [1.5, 1.5]
    with config.change(floatX="float32"):
        g = grad((n * n).sum() * 1.5, n)  # the product is an integer: no gradient goes through it
    assert g.dtype == "float32"
    assert at(g, n=[1, 2]) == [0.0, 0.0]


def test_integer_cost_has_gradients_of_zero() -> None:
    n = T.lvector("n")
    assert at(grad(n.sum(), n), n=[1, 2]) == [0.0, 0.0]


def test_gradient_keeps_float32() -> None:
    x, y = T.fvector("x"), T.dvector("y")
    gx, gy = grad((x * y).sum(), [x, y])
    assert (gx.dtype, gy.dtype) == ("float32", "float64")


# Arguments ---------------------------------------------------------------------------------------------


def test_result_is_shaped_as_wrt() -> None:
    x, y = T.dscalars("x", "y")
    assert isinstance(grad(x * y, x), Tensor)
    assert isinstance(grad(x * y, [x]), list)
    assert isinstance(grad(x * y, (x, y)), tuple)
    assert grad(x * y, []) == []


def test_wrt_may_be_any_node() -> None:
    x = T.dvector("x")
    y = T.exp(x)
    cost = (y * y).sum()
    assert at(grad(cost, y), x=[0.0]) == [2.0]
    assert at(grad(cost, cost)) == 1.0


def test_consider_constant() -> None:
    x = T.dscalar("x")
    z = x * x
    assert at(grad(z * x, x, consider_constant=[z]), x=3.0) == 9.0
    assert at(grad(z * x, z, consider_constant=[z]), x=3.0) == 3.0


def test_known_gradients() -> None:
    x = T.dvector("x")
    y, z = x * 2, x * 3
    g = grad(None, x, known_grads={y: np.array([1.0, 10.0]), z: x})
    assert at(g, x=[1.0, 1.0]) == [5.0, 23.0]


def test_known_gradients_replace_what_the_cost_says() -> None:
    x = T.dvector("x")
    y = x * 2
    g = grad((y * y).sum(), x, known_grads={y: [1.0, 1.0]})
    assert at(g, x=[5.0, 5.0]) == [2.0, 2.0]


def test_disconnected_inputs() -> None:
    x, y = T.dvector("x"), T.fvector("y")
    cost = x.sum()
    with pytest.raises(DisconnectedInputError, match=r"y: TensorType\(float32, vector\)"):
        grad(cost, y)
    with pytest.warns(UserWarning, match="does not depend on it"):
        grad(cost, y, disconnected_inputs="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g = grad(cost, [x, y], disconnected_inputs="ignore")
    assert g[1].dtype == "float32"
    assert at(g[1], y=[1.0, 2.0]) == [0.0, 0.0]
    options = {"disconnected_inputs": "ignore"}
    assert grad(cost, y, return_disconnected="None", **options) is None
    assert isinstance(grad(cost, y, return_disconnected="Disconnected", **options).type, DisconnectedType)


def test_shared_variables_are_variables() -> None:
    w = shared(np.array([1.0, 2.0]), name="w")
    assert at(grad((w**2).sum() * T.dscalar("x"), w), x=2.0, w=[1.0, 2.0]) == [4.0, 8.0]


def test_results_are_named() -> None:
    x, cost = T.dvector("x"), None
    cost = T.exp(x).sum()
    cost.name = "cost"
    assert grad(cost, x).name == "(dcost/dx)"
    other = T.sin(x).sum()
    other.name = "other"
    assert grad(other, x, add_names=False).name is None


def test_subgraph_grad() -> None:
    x, w1, w2 = T.dvector("x"), T.dscalar("w1"), T.dscalar("w2")
    hidden = T.tanh(x * w1)
    cost = ((hidden * w2) ** 2).sum()
    (g2,), (at_hidden,) = subgraph_grad([w2], [hidden], cost=cost)
    (g1,), _ = subgraph_grad([w1], [x], start={hidden: at_hidden})
    values = {"x": [0.3, -0.2], "w1": 0.7, "w2": 1.3}
    expected = grad(cost, [w1, w2])
    assert at(g1, **values) == pytest.approx(at(expected[0], **values))
    assert at(g2, **values) == pytest.approx(at(expected[1], **values))
    assert len(subgraph_grad([w2], [hidden], cost=cost, details=True)) == 4
    with pytest.raises(ValueError, match="give start, cost"):
        subgraph_grad([w2], [hidden])


# Barriers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [zero_grad, consider_constant])
def test_zero_gradients(stop: Any) -> None:
    x = T.dscalar("x")
    assert at(grad(stop(x) * 2, x), x=3.0) == 0.0
    assert at(grad(stop(x) * x, x), x=3.0) == 3.0


def test_disconnected_gradient() -> None:
    x = T.dscalar("x")
    assert at(grad(disconnected_grad(x) * x, x), x=3.0) == 3.0
    with pytest.raises(DisconnectedInputError):
        grad(disconnected_grad(x) * 2, x)


def test_barriers_keep_values_and_types() -> None:
    x = T.fvector("x")
    for y in (zero_grad(x), disconnected_grad(x), grad_clip(x, 0, 1), undefined_grad(x), grad_scale(x, 2)):
        assert y.type is x.type
        assert at(y, x=[3.0]) == [3.0]


def test_undefined_gradient() -> None:
    x, y = T.dscalar("x"), T.dscalar("y")
    cost = undefined_grad(T.exp(x)) * y
    with pytest.raises(NullTypeGradError, match=r"x: .*undefined_grad .*is undefined"):
        grad(cost, x)
    assert at(grad(cost, y), x=0.0, y=1.0) == 1.0
    assert isinstance(grad(cost, x, null_gradients="return").type, NullType)


@pytest.fixture
def op() -> Any:
    """Records of operations that a test defines and the table forgets."""
    before = set(OPS)
    yield elementwise
    for name in set(OPS) - before:
        del OPS[name]


def test_gradients_that_operations_declare_missing(op: Any) -> None:
    undefined = op(
        "test_undefined", doc="", scalar=lambda x: x, numpy=lambda x: x, arity=1,
        gradient=lambda g, x, out: (grad_undefined(out.op, 0, x, "It jumps."),),
    )  # fmt: skip
    unwritten = op(
        "test_unwritten", doc="", scalar=lambda x: x, numpy=lambda x: x, arity=1,
        gradient=lambda g, x, out: (grad_not_implemented(out.op, 0, x),),
    )  # fmt: skip
    x = T.dscalar("x")
    with pytest.raises(NullTypeGradError, match=r"test_undefined .*It jumps"):
        grad(undefined(x), x)
    with pytest.raises(NullTypeGradError, match=r"test_unwritten .*not implemented"):
        grad(unwritten(x) * 2, x)


def test_operation_without_a_gradient(op: Any) -> None:
    none: OpDef = op("test_none", doc="", scalar=lambda x: x, numpy=lambda x: x, arity=1)
    x, y = T.dscalar("x"), T.dscalar("y")
    cost = none(T.exp(x)) * y
    with pytest.raises(
        NonDifferentiableError, match=r"test_none has no gradient \(test_grad_semantics.py:\d+\)"
    ):
        grad(cost, x)
    assert at(grad(cost, y), x=0.0, y=2.0) == 1.0  # no gradient goes through it
    assert at(grad(cost + x, x, consider_constant=[none(T.exp(x))]), x=0.0, y=2.0) == 1.0


def test_operation_with_a_wrong_gradient(op: Any) -> None:
    wrong = op(
        "test_wrong",
        doc="",
        scalar=lambda x, y: x + y,
        numpy=np.add,
        arity=2,
        gradient=lambda g, x, y, out: (g,),
    )
    x = T.dscalar("x")
    with pytest.raises(InternalError, match="test_wrong has 1 parts for 2 inputs"):
        grad(wrong(x, x), x)


# Errors ------------------------------------------------------------------------------------------------


def bad_programs() -> dict[str, tuple[Any, type[Exception], str]]:
    x, z, v = T.dscalar("x"), T.zscalar("z"), T.dvector("v")
    return {
        "vector_cost": (lambda: grad(v * 2, v), TypeError, "cost must be a scalar, got mul: .*cost.sum()"),
        "number_cost": (
            lambda: grad(3.0, x),
            TypeError,
            "cost must be a symbolic expression, got float: 3.0",
        ),
        "complex_cost": (lambda: grad(z * z, x), DTypeError, "cost must be real"),
        "complex_wrt": (lambda: grad(abs(z), z), DTypeError, "complex numbers have no gradient here, got z"),
        "complex_between": (
            lambda: grad(T.real(T.complex(x, x) * T.complex(x, x)), x),
            NonDifferentiableError,
            "gradients of complex numbers are not defined here; write the cost with the real and imaginary",
        ),
        "no_cost": (lambda: grad(None, x), ValueError, "cost may be None only where known_grads"),
        "string_wrt": (
            lambda: grad(x, "x"),
            TypeError,
            "wrt must be a variable or a list of them, got str: 'x'",
        ),
        "bad_option": (
            lambda: grad(x, x, disconnected_inputs="no"),
            ValueError,
            "disconnected_inputs must be 'raise' or 'warn' or 'ignore', got 'no'",
        ),
        "bad_return": (lambda: grad(x, x, return_disconnected=0), ValueError, "return_disconnected must be"),
        "known_rank": (
            lambda: grad(None, v, known_grads={v: 1.0}),
            TypeError,
            "known_grads: for v: .* there must be 1 dimensions",
        ),
        "known_key": (
            lambda: grad(None, v, known_grads={"v": 1.0}),
            TypeError,
            "keys must be variables, got str",
        ),
        "known_complex": (lambda: grad(None, x, known_grads={x: z}), DTypeError, "it must be real"),
        "lop_count": (
            lambda: Lop([v, v * 2], v, [v]),
            ValueError,
            "2 expressions need as many eval_points, got 1",
        ),
        "rop_count": (lambda: Rop(v, [v, x], [v]), ValueError, "2 variables need as many eval_points, got 1"),
        "rop_independent": (
            lambda: Rop(v * 2, x, x),
            DisconnectedInputError,
            "does not depend on any variable",
        ),
        "rop_undefined": (lambda: Rop(undefined_grad(x), x, x), NullTypeGradError, "Rop: no gradient"),
        "hessian_matrix": (lambda: hessian(x, T.dmatrix("m")), TypeError, "wrt must be vectors, got m"),
        "hvp_count": (lambda: hessian_vector_product(x, [x], [x, x]), ValueError, "1 variables need as many"),
        "jacobian_wrt": (lambda: jacobian(v, 3), TypeError, "jacobian: wrt must be a variable"),
        "clip_bounds": (lambda: grad_clip(x, 1, -1), ValueError, "lower bound 1 is above the upper bound -1"),
    }


@pytest.mark.parametrize("name", bad_programs())
def test_error(name: str) -> None:
    build, error, message = bad_programs()[name]
    with pytest.raises(error, match=message):
        build()


def test_rop_of_independent_outputs_may_be_zero() -> None:
    x, v = T.dscalar("x"), T.dvector("v")
    assert at(Rop(v * 2, x, x, disconnected_outputs="ignore"), v=[1.0]) == [0.0]
    assert at(Rop(T.floor(x), x, x), x=1.5) == 0.0
