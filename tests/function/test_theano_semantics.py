"""Points 14-23 and 41-42 of Theano's semantics about functions and shared variables, by number."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import In, MissingInputError, Out, UnusedInputError, UpdateError, config, function, shared
from symtensor.printing import debugprint, pp
from symtensor.settings import Config, ConfigError
from symtensor_codegen.errors import DTypeError


def raises_type_error() -> Any:
    """Theano raises TypeError for unfit values, also for ranks and fixed sizes."""
    return pytest.raises(TypeError)


# 14: inputs ------------------------------------------------------------------------------------------------


def test_14_unused_inputs_raise_unless_told_otherwise() -> None:
    x, y = T.dvectors("x", "y")
    with pytest.raises(UnusedInputError):
        function([x, y], x)
    assert function([x, y], x, on_unused_input="ignore")([1.0], [2.0]) == [1.0]
    with pytest.warns(UserWarning, match="is not used"):
        function([x, y], x, on_unused_input="warn")
    with config.change(on_unused_input="ignore"):
        function([x, y], x)


def test_14_a_shared_variable_is_no_input() -> None:
    s = shared(1.0)
    with pytest.raises(TypeError, match="is a shared variable"):
        function([s], s)


def test_14_a_missing_input_is_found_when_compiling() -> None:
    x, y = T.dvectors("x", "y")
    with pytest.raises(MissingInputError):
        function([x], x + y)


# 15: conversion of arguments -------------------------------------------------------------------------------


def test_15_doubles_do_not_become_floats_by_themselves() -> None:
    x = T.fvector("x")
    f = function([x], x)
    with pytest.raises(DTypeError):
        f(np.zeros(2))
    for allowed in (function([x], x, allow_input_downcast=True), function([In(x, allow_downcast=True)], x)):
        result = allowed(np.array([0.1]))
        assert result.dtype == np.float32
        assert result == np.float32(0.1)


def test_15_python_floats_convert_to_floatx_only() -> None:
    x = T.fscalar("x")
    f = function([x], x)
    with pytest.raises(DTypeError):
        f(0.1)
    with config.change(floatX="float32"):
        assert f(0.1) == np.float32(0.1)


def test_15_lists_convert_when_exact() -> None:
    x = T.fvector("x")
    f = function([x], x)
    np.testing.assert_array_equal(f([0.5, 0.25]), np.array([0.5, 0.25], "float32"))
    with pytest.raises(DTypeError):
        f([0.1])


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ("int8", "int64", True), ("int32", "float32", False), ("int16", "float32", True), ("int32", "float64", True),
        ("int64", "float64", True), ("int64", "int32", False), ("float32", "float64", True), ("bool", "int8", True),
        ("uint8", "int8", False), ("float64", "int64", False), ("complex64", "float64", False),
    ],
)  # fmt: skip
def test_15_arrays_convert_upwards_only(given: str, wanted: str, fits: bool) -> None:
    x = T.TensorType(wanted, (None,))("x")
    f, s = function([x], x), shared(np.zeros(2, wanted))
    value = np.ones(2, given)
    if fits:
        np.testing.assert_array_equal(f(value), np.ones(2, wanted))
        s.set_value(value)
        np.testing.assert_array_equal(s.get_value(), np.ones(2, wanted))
    else:
        for refused in (f, s.set_value):
            with pytest.raises(DTypeError):
                refused(value)


def test_15_the_rank_must_fit_and_the_shape_may_change() -> None:
    x, s = T.dvector("x"), shared(np.zeros(2))
    for refused in (function([x], x), s.set_value):
        with raises_type_error():
            refused(np.zeros((2, 2)))
    s.set_value(np.zeros(5))
    s.set_value([1.0, 2.0])
    np.testing.assert_array_equal(s.get_value(), [1, 2])


# 16: updates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [dict, list, tuple, OrderedDict])
def test_16_updates_in_every_form(form: Any) -> None:
    a, b = shared(1.0), shared(2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = function([], [], updates=form([(a, a + b), (b, np.float64(7))]))
    f()
    assert (a.get_value(), b.get_value()) == (3, 7)


def test_16_values_may_be_numbers_and_arrays() -> None:
    s, v = shared(np.float32(1)), shared(np.zeros(2))
    function([], updates=[(s, 2), (v, np.ones(3))])()
    assert s.get_value() == 2
    np.testing.assert_array_equal(v.get_value(), np.ones(3))


def test_16_keys_must_be_shared_variables() -> None:
    x = T.dscalar("x")
    with pytest.raises(TypeError):
        function([x], updates={x: x + 1})


def test_16_an_update_keeps_the_type() -> None:
    n = shared(np.zeros(2, "int64"))
    with pytest.raises(UpdateError):
        function([], updates={n: n + 1.5})
    with pytest.raises(ValueError, match="given twice"):
        function([], updates=[(n, n + 1), (n, n + 2)])


# 17: simultaneous updates ----------------------------------------------------------------------------------


def test_17_all_updates_read_old_values() -> None:
    a, b = shared(np.array([1.0, 2.0])), shared(np.array([3.0, 4.0]))
    f = function([], [a + b, a], updates=[(a, b), (b, a)])
    total, old = f()
    np.testing.assert_array_equal(total, [4, 6])
    np.testing.assert_array_equal(old, [1, 2])
    np.testing.assert_array_equal(a.get_value(), [3, 4])
    np.testing.assert_array_equal(b.get_value(), [1, 2])
    f()
    np.testing.assert_array_equal(a.get_value(), [1, 2])


def test_17_results_are_copies() -> None:
    s, x = shared(np.zeros(3)), T.dvector("x")
    f = function([x], [s, x, s + 1], updates={s: s + x})
    given = np.ones(3)
    for result in f(given):
        result[:] = 99
    np.testing.assert_array_equal(s.get_value(), np.ones(3))
    np.testing.assert_array_equal(given, np.ones(3))


# 18: forms of results --------------------------------------------------------------------------------------


def test_18_the_kind_of_result_follows_the_outputs() -> None:
    x = T.dscalar("x")
    one = function([x], x * 2)(3.0)
    assert isinstance(one, np.ndarray)
    assert one.shape == ()
    assert function([x], [x * 2])(3.0) == [6.0]
    assert isinstance(function([x], [x * 2])(3.0), list)
    assert function([x], {"b": x, "a": x + 1})(3.0) == {"a": 4.0, "b": 3.0}
    assert function([x], on_unused_input="ignore")(3.0) == []
    assert function([x], [], on_unused_input="ignore")(3.0) == []
    assert function([x], Out(x * 2, borrow=True))(3.0) == 6.0


def test_18_inputs_by_name_and_with_defaults() -> None:
    x, y = T.dscalars("x", "y")
    f = function([x, In(y, value=10.0)], x - y, name="minus")
    assert f(1.0) == -9
    assert f(1.0, 2.0) == f(y=2.0, x=1.0) == f(1.0, y=2.0) == -1
    g = function([In(x, name="left"), y], x - y)
    assert g(left=3.0, y=1.0) == 2
    assert f.name == "minus"


# 19: borrowing ---------------------------------------------------------------------------------------------


def test_19_shared_copies_unless_it_borrows() -> None:
    value = np.zeros(2)
    mine, borrowed = shared(value), shared(value, borrow=True)
    value[0] = 5
    assert mine.get_value()[0] == 0
    assert borrowed.get_value()[0] == 5
    mine.get_value()[0] = 7
    assert mine.get_value()[0] == 0
    mine.get_value(borrow=True)[0] = 7
    assert mine.get_value()[0] == 7
    mine.set_value(value)
    assert not np.shares_memory(mine.get_value(borrow=True), value)
    mine.set_value(value, borrow=True)
    assert mine.get_value(borrow=True) is value


def test_19_copies_of_shared_variables() -> None:
    s = shared(np.zeros(2), name="s")
    same, other = copy.copy(s), copy.deepcopy(s)
    assert same.container is s.container
    assert other.container is not s.container
    s.set_value(np.ones(2))
    np.testing.assert_array_equal(same.get_value(), np.ones(2))
    np.testing.assert_array_equal(other.get_value(), np.zeros(2))
    with pytest.raises(AttributeError):
        _ = s.value


# 20: givens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [dict, list])
def test_20_givens_replace_inputs_by_parts_of_shared_data(form: Any) -> None:
    data, labels = shared(np.arange(12.0).reshape(6, 2)), T.cast(shared(np.arange(6.0)), "int32")
    x, y, i = T.dmatrix("x"), T.ivector("y"), T.lscalar("i")
    f = function([i], [x.sum(), y], givens=form([(x, data[i * 2 : i * 2 + 2]), (y, labels[i * 2 : i * 2 + 2])]))
    total, chosen = f(1)
    assert total == 4 + 5 + 6 + 7
    np.testing.assert_array_equal(chosen, [2, 3])


def test_20_givens_replace_any_expression() -> None:
    x = T.dvector("x")
    h = T.exp(x)
    f = function([x], (h * 2).sum(), givens={h: x + 1})
    assert f([1.0, 2.0]) == 10


def test_20_givens_keep_the_type() -> None:
    x, y = T.dvector("x"), T.fvector("y")
    with pytest.raises(TypeError):
        function([y], x * 2, givens={x: y})


def test_20_an_input_that_is_replaced_is_unused() -> None:
    x = T.dvector("x")
    with pytest.raises(UnusedInputError):
        function([x], x * 2, givens={x: T.constant(np.ones(2))})


def test_20_givens_reach_updates() -> None:
    s, x = shared(1.0), T.dscalar("x")
    function([], updates={s: s * x}, givens={x: T.constant(3.0)})()
    assert s.get_value() == 3


# 21: default updates ---------------------------------------------------------------------------------------


def counter() -> Any:
    """A shared variable that counts the calls of functions that use it."""
    made = shared(0, name="counter")
    made.default_update = made + 1
    return made


def test_21_default_updates_need_no_mention() -> None:
    c = counter()
    f = function([], c * 10)
    assert [int(f()) for _ in range(3)] == [0, 10, 20]


def test_21_they_can_be_left_out() -> None:
    c, d = counter(), counter()
    function([], c + d, no_default_updates=True)()
    assert (c.get_value(), d.get_value()) == (0, 0)
    function([], c + d, no_default_updates=[c])()
    assert (c.get_value(), d.get_value()) == (0, 1)


def test_21_an_update_of_ones_own_counts_instead() -> None:
    c = counter()
    function([], c, updates={c: c + 5})()
    assert c.get_value() == 5


def test_21_default_updates_bring_their_own() -> None:
    c = counter()
    s = shared(1, name="s")
    s.default_update = s * 2 + c
    function([], s)()
    assert (s.get_value(), c.get_value()) == (2, 1)


def test_21_one_variable_is_one_value() -> None:
    c = counter()
    assert function([], c - c)() == 0


# 22: pickles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_22_everything_is_pickled(protocol: int) -> None:
    x, w = T.dmatrix("x"), shared(np.ones((2, 2)), name="w")
    model = {"input": x, "output": T.tanh(T.dot(x, w)), "parameters": [w]}
    model["predict"] = function([x], model["output"], name="predict")
    back = pickle.loads(pickle.dumps(model, protocol))
    data = np.array([[0.5, -1.0]])
    np.testing.assert_array_equal(back["predict"](data), model["predict"](data))
    again = function([back["input"]], back["output"])
    np.testing.assert_array_equal(again(data), model["predict"](data))
    (v,) = back["parameters"]
    v.set_value(np.zeros((2, 2)))
    np.testing.assert_array_equal(back["predict"](data), [[0, 0]])
    np.testing.assert_array_equal(w.get_value(), np.ones((2, 2)))


# 23: eval --------------------------------------------------------------------------------------------------


def test_23_eval() -> None:
    x, y = T.dscalars("x", "y")
    assert (x * 2).eval({x: 2}) == 4
    assert (x - y).eval({x: 1.5, y: 1}) == 0.5
    assert T.constant(3).eval() == 3
    assert T.arange(3).sum().eval() == 3


# 41: printing ----------------------------------------------------------------------------------------------


def test_41_printing() -> None:
    x = T.fmatrix("x")
    assert "tanh" in str(debugprint(T.tanh(x), file="str"))
    assert "tanh" in pp(T.tanh(x))
    assert str(x.type) == "TensorType(float32, matrix)"
    assert str(T.constant(2)) == "TensorConstant{2}"
    assert (x + x).owner.op == T.add
    with pytest.raises(AttributeError):
        _ = config.no_such_setting
    with pytest.raises(AttributeError):
        config.no_such_setting = 1


# 42: modes and flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["FAST_RUN", "FAST_COMPILE", "DebugMode", "NanGuardMode"])
def test_42_theanos_modes(mode: str) -> None:
    x = T.dscalar("x")
    assert function([x], x * 2, mode=mode)(2.0) == 4


def test_42_flags_of_the_environment() -> None:
    flags = "floatX=float32, mode=FAST_COMPILE,profile=True"
    program = (
        "import symtensor, symtensor.tensor as T; f = symtensor.function([], T.zeros(2)); "
        "print(f().dtype, f.mode, f.profile.calls)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SYMTENSOR_FLAGS": flags, "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == ["float32", "fast_compile", "1"]


def test_42_flags_are_checked() -> None:
    assert Config("floatX=float16,fast_math=1").floatX == "float16"
    for flags in ("floatX=half", "colour=red", "profile=maybe", "mode=FAST"):
        with pytest.raises(ConfigError, match=r"^SYMTENSOR_FLAGS: "):
            Config(flags)
