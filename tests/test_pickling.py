"""Pickling, copying and cloning of expressions."""

import copy
import pickle

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import clone, shared
from symtensor.apply import Apply, equal_computations, explicit_inputs, inputs, io_toposort, is_same_graph
from symtensor.graph import Tensor, constant
from symtensor.pickling import PickleError, flatten, unflatten
from symtensor.reference import evaluate
from symtensor_codegen.errors import DTypeError, ShapeError


def again(value: object) -> object:
    return pickle.loads(pickle.dumps(value))


def expression() -> tuple[Tensor, Tensor, Tensor]:
    x, y = T.dmatrix("x"), T.fvector("y")
    z = (T.tanh(T.dot(x, x.T))[1:, ::2] * 3).sum(axis=0).dimshuffle("x", 0) + y[0] + np.arange(2.0)
    return x, y, z


def test_values_survive() -> None:
    x, y, z = expression()
    x2, y2, z2 = again([x, y, z])
    at = [np.arange(12.0).reshape(3, 4) / 10, np.float32([1, 2])]
    expected = evaluate([z], dict(zip([x, y], at, strict=True)))[0]
    np.testing.assert_array_equal(evaluate([z2], dict(zip([x2, y2], at, strict=True)))[0], expected)
    assert z2.type is z.type


def test_a_copy_has_inputs_of_its_own_and_shares_them() -> None:
    x, _, z = expression()
    x2, z2, w2 = again((x, z, T.exp(x)))
    assert x2 is not x
    assert x2 in inputs([z2])
    assert w2 is T.exp(x2)


def test_side_data_survives() -> None:
    x = T.dvector("x")
    x.tag.test_value = np.ones(3)
    y = T.exp(x * 2.0)
    y.name, y.role = "y", "output"
    y2 = again(y)
    assert (y2.name, y2.role, y2.site) == ("y", "output", y.site)
    assert y.site.startswith("test_pickling.py:")
    (x2,) = explicit_inputs([y2])
    assert x2.site == x.site
    np.testing.assert_array_equal(x2.tag.test_value, np.ones(3))


def test_private_attributes_are_left_behind() -> None:
    x = T.dvector("x")
    y = T.exp(x)
    y._cache = lambda: None  # a function of a function cannot be pickled
    assert not hasattr(again(y), "_cache")


def test_constants() -> None:
    small, large = constant([1.5, 2.5], name="c"), constant(np.arange(10_000))
    assert again(small) is small
    again_large = again(large)
    np.testing.assert_array_equal(again_large.data, large.data)
    assert not again_large.data.flags.writeable


def test_shared_variables() -> None:
    w = shared(np.arange(3.0), name="w", broadcastable=(False,))
    w.default_update = w + 1
    w.role = "weights"
    w2, y2 = again([w, w * 2])
    assert (w2.name, w2.type, w2.role) == ("w", w.type, "weights")
    np.testing.assert_array_equal(w2.get_value(), [0, 1, 2])
    w2.set_value(np.ones(3))
    np.testing.assert_array_equal(w.get_value(), [0, 1, 2])
    assert y2 is w2 * 2
    assert w2.default_update is w2 + 1


def test_types_and_operations_are_the_same_objects() -> None:
    x = T.TensorType("float32", (1, None))("x")
    assert again(x.type) is x.type
    assert again(T.exp(x).op) is T.exp(x).op


def test_copies() -> None:
    x, _, z = expression()
    assert copy.copy(z) is z
    z2 = copy.deepcopy(z)
    assert z2 is not z
    assert x not in inputs([z2])
    x3, z3 = copy.deepcopy([x, z])
    assert x3 in inputs([z3])


def test_many_outputs_are_taken_apart_once() -> None:
    x = T.dvector("x")
    y = T.exp(x)
    outputs = [y, T.sin(y), x]
    leaves, steps, places = flatten(outputs)
    assert (leaves, len(steps)) == ([x], 2)
    assert unflatten(leaves, steps, places) == outputs


def test_unknown_operations_are_reported() -> None:
    x = T.dvector("x")
    leaves, steps, places = flatten([T.exp(x)])
    op, where, params, site, side = steps[0]
    with pytest.raises(
        PickleError, match=r"uses exp in a way this version does not know .* build the expression"
    ):
        unflatten(leaves, [(op, (*where, 7), params, site, side)], places)


# clone -------------------------------------------------------------------------------------------------


def test_clone_replaces() -> None:
    x, y = T.dvectors("x", "y")
    z = T.exp(x) * 2 + T.sin(y)
    assert clone(z, replace={x: y}) is T.exp(y) * 2 + T.sin(y)
    assert clone([z, x], replace=[(x, y)]) == [T.exp(y) * 2 + T.sin(y), y]
    assert clone((z,), {T.exp(x): x}) == (x * 2 + T.sin(y),)
    assert clone({"z": z}) == {"z": z}


def test_replacements_may_use_what_they_replace() -> None:
    x = T.dvector("x")
    assert clone(T.exp(x), {x: x + 1}) is T.exp(x + 1)


def test_clone_with_inputs_of_its_own() -> None:
    x, w = T.dvector("x"), shared(np.zeros(3), name="w")
    x.role = "data"
    z = clone(x * w, share_inputs=False)
    new, kept = z.inputs
    assert (new.name, new.type, new.role, kept) == ("x", x.type, "data", w)
    assert new is not x


def test_clone_checks_types() -> None:
    x, f, m = T.dvector("x"), T.fvector("f"), T.dmatrix("m")
    row = T.row("row", dtype="float64")
    with pytest.raises(TypeError, match="numbers of dimensions differ"):
        clone(x * 2, {x: m})
    with pytest.raises(
        DTypeError, match=r"f: .* cannot stand for x: .*element types differ; convert it with cast"
    ):
        clone(x * 2, {x: f})
    assert clone(x * 2, {x: f}, strict=False).type is x.type
    with pytest.raises(ShapeError, match=r"cannot stand for row: .*specify_shape"):
        clone(row * 2, {row: m})
    with pytest.raises(TypeError, match=r"what is replaced must be a variable, got str"):
        clone(x * 2, {"x": f})
    with pytest.raises(TypeError, match="outputs must be expressions, got int"):
        clone(3)


def test_clone_keeps_names_and_lines() -> None:
    x, y = T.dvectors("x", "y")
    z = T.exp(x)
    z.name = "z"
    new = clone(z, {x: y})
    assert (new.name, new.site) == ("z", z.site)


# Theano's view -----------------------------------------------------------------------------------------


def test_owner() -> None:
    x = T.dvector("x")
    y = T.exp(x)
    assert x.owner is None
    assert (y.owner.op, y.owner.inputs, y.owner.outputs) == (T.exp, [x], [y])
    assert y.owner == y.owner
    assert len({y.owner, y.owner}) == 1
    assert (y.owner.nin, y.owner.nout, y.owner.default_output()) == (1, 1, y)
    assert repr(y.owner) == "exp(x)"
    assert y.owner.clone_with_new_inputs([y]) == Apply(T.exp(y))


def test_walks() -> None:
    x, y = T.dvectors("x", "y")
    z = T.exp(x) * 2.0
    w = z + y
    assert set(explicit_inputs([w])) == {x, y}
    assert set(inputs([w], blockers=[z])) == {z, y}
    assert [node.op.name for node in io_toposort([x, y], [w])] == ["exp", "mul", "add"]
    assert [node.op.name for node in io_toposort([z], [w])] == ["add"]


def test_comparing_graphs() -> None:
    x, y = T.dvectors("x", "y")
    assert is_same_graph(T.exp(x) + 1, T.exp(x) + 1)
    assert not is_same_graph(T.exp(x), T.exp(y))
    assert is_same_graph(T.exp(x), T.exp(y), givens={x: y})
    assert equal_computations([T.exp(x)], [T.exp(y)], [x], [y])
    assert not equal_computations([T.exp(x)], [T.exp(y)])
    assert not equal_computations([x, x], [x])
    assert not equal_computations([x], [T.fvector()], [x], [T.fvector()])
