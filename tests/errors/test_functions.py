"""Functions, settings and shared variables that cannot be, and what is said about them."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import In, clone, config, function, shared
from symtensor.arguments import MissingInputError, UnusedInputError, UpdateError
from symtensor.modes import DebugMode, Mode, ModeError
from symtensor.settings import Config, ConfigError
from symtensor.shared_variables import ArgumentShapeError
from symtensor_codegen.errors import DTypeError, ShapeError, UserError
from tests.errors.rows import Row, Table, check, state

bad = Table()


# Building functions ----------------------------------------------------------------------------------------


@bad(
    MissingInputError,
    "function: an output depends on the variable y: TensorType(float64, vector) (HERE), which is not among "
    "the inputs; add it to inputs, or give it a value with givens",
)
def input_missing() -> object:
    x, y = T.dvector("x"), T.dvector("y")
    return function([x], x + y)


@bad(
    UnusedInputError,
    "function: input 1 (y: TensorType(float64, vector) (HERE)) is not used by any output or update; remove "
    "it, or pass on_unused_input='ignore'",
)
def input_unused() -> object:
    x, y = T.dvector("x"), T.dvector("y")
    return function([x, y], x * 2)


@bad(
    ValueError,
    "function: on_unused_input takes 'raise', 'warn' or 'ignore', not 'shout'",
)
def unused_policy() -> object:
    x = T.dvector("x")
    return function([x], x, on_unused_input="shout")


@bad(
    TypeError,
    "function: input 0 (s: TensorType(float64, scalar) (rows.py:49)) is a shared variable; leave it out of "
    "the inputs: functions use shared variables implicitly (to replace its value, use givens)",
)
def input_is_shared() -> object:
    s = state(1.0)
    return function([s], s * 2)


@bad(
    TypeError,
    "function: input 0 is the constant TensorConstant{1.0}",
)
def input_is_constant() -> object:
    c = T.constant(1.0)
    return function([c], c * 2)


@bad(
    TypeError,
    "function: input 0 must be a variable, not 3",
)
def input_is_a_number() -> object:
    return function([3], T.constant(1.0))


@bad(
    ValueError,
    "function: the input x: TensorType(float64, vector) (HERE) is given twice",
)
def input_twice() -> object:
    x = T.dvector("x")
    return function([x, x], x * 2)


@bad(
    TypeError,
    "function: inputs must be a list or tuple of variables, not Tensor",
)
def inputs_no_list() -> object:
    x = T.dvector("x")
    return function(x, x * 2)


@bad(
    UserError,
    "In(update=...) is not supported: use a shared variable and function(updates=...)",
)
def input_with_update() -> object:
    return In(T.dscalar("x"), update=1.0)


@bad(
    ArgumentShapeError,
    "function: default value of the input x: TensorType(float64, vector) (HERE): expected 1 dimension "
    "(TensorType(float64, vector)), got 0 (shape ())",
)
def input_default_type() -> object:
    x = T.dvector("x")
    return function([In(x, value=2.0)], x)


@bad(
    TypeError,
    "function: an output must be an expression, not 'x'",
)
def output_is_text() -> object:
    return function([], "x")


@bad(
    TypeError,
    "function: keys of a dict of outputs must be strings, not 1",
)
def output_key() -> object:
    return function([], {1: T.constant(1.0)})


@bad(
    TypeError,
    "function: updates are for shared variables, not for x",
)
def update_of_an_input() -> object:
    x = T.dvector("x")
    return function([x], x, updates={x: x + 1})


@bad(
    UpdateError,
    "update of s: the new value must have the type TensorType(int64, vector), got TensorType(float64, "
    "vector) (HERE); cast it: T.cast(value, 'int64')",
)
def update_type() -> object:
    s = state(np.zeros(3, "int64"))
    return function([], updates={s: s + 1.5})


@bad(
    UpdateError,
    "update of s: the new value must have the type TensorType(float64, vector), got TensorType(float64, "
    "matrix) (HERE); give it the rank of the variable (dimshuffle, reshape or sum)",
)
def update_rank() -> object:
    s = state(np.zeros(3))
    x = T.dmatrix("x")
    return function([x], updates={s: x})


@bad(
    UpdateError,
    "update of r: the new value must have the type TensorType(float64, row), got TensorType(float64, "
    "matrix) (rows.py:49); see T.unbroadcast and T.addbroadcast for the sizes that broadcast",
)
def update_pattern() -> object:
    s = state(np.zeros((2, 3)))
    r = shared(np.zeros((1, 3)), "r", broadcastable=(True, False))
    return function([], updates={r: s})


@bad(
    ValueError,
    "function: updates: s is given twice",
)
def update_twice() -> object:
    s = state(0.0)
    return function([], updates=[(s, s + 1), (s, s + 2)])


@bad(
    TypeError,
    "function: updates must be a dict or a list of pairs, got s",
)
def updates_no_pairs() -> object:
    s = state(0.0)
    return function([], updates=[s])


@bad(
    UpdateError,
    "givens: replacement of x: TensorType(float64, vector) (HERE): the new value must have the type "
    "TensorType(float64, vector), got TensorType(float64, (2, 2)); give it the rank of the variable "
    "(dimshuffle, reshape or sum)",
)
def givens_type() -> object:
    x = T.dvector("x")
    return function([], x * 2, givens={x: T.constant(np.zeros((2, 2)))})


@bad(
    TypeError,
    "function: givens replace variables, not 1",
)
def givens_of_a_number() -> object:
    x = T.dvector("x")
    return function([x], x * 2, givens={1: x})


@bad(
    ModeError,
    "function: there is no mode 'fast'; the modes are 'fast_run', 'fast_compile', 'debug', 'nan_guard', 'reference'",
)
def mode_unknown() -> object:
    return function([], T.constant(1.0), mode="fast")


@bad(
    ModeError,
    "Mode: there is no linker 'gpu'; Theano's are 'py', 'c', 'c|py', 'c&py', 'vm', 'cvm', 'vm_nogc', "
    "'cvm_nogc', 'c|py_nogc'",
)
def mode_linker() -> object:
    return Mode(linker="gpu")


@bad(
    TypeError,
    "DebugMode has no option 'depth'; Theano's are check_c_code, check_isfinite, "
    "check_preallocated_output, check_py_code, linker, optimizer, require_matching_strides, "
    "stability_patience",
)
def mode_option() -> object:
    return DebugMode(depth=3)


@bad(
    TypeError,
    "clone: y: TensorType(float64, matrix) (HERE) cannot stand for x: TensorType(float64, vector) (HERE): "
    "the numbers of dimensions differ",
)
def clone_type() -> object:
    x, y = T.dvector("x"), T.dmatrix("y")
    return clone(x * 2, replace={x: y})


# Settings --------------------------------------------------------------------------------------------------


@bad(
    AttributeError,
    "config has no setting 'floatx'; there are floatX, cast_policy, mode, device, matmul_precision, "
    "compute_test_value, on_unused_input, exception_verbosity, profile, fast_math",
)
def setting_unknown() -> None:
    config.floatx = "float32"


@bad(
    ConfigError,
    "config.floatX takes 'float16' or 'float32' or 'float64', not 'float31'",
)
def setting_value() -> None:
    config.floatX = "float31"


@bad(
    ConfigError,
    "config.mode takes 'fast_run' or 'fast_compile' or 'debug' or 'nan_guard' or 'reference', not 'slow'",
)
def setting_mode() -> None:
    config.mode = "slow"


@bad(
    AttributeError,
    "config has no setting 'gpu'; there are floatX, cast_policy, mode, device, matmul_precision, "
    "compute_test_value, on_unused_input, exception_verbosity, profile, fast_math",
)
def setting_read() -> object:
    return config.gpu


@bad(
    ConfigError,
    "SYMTENSOR_FLAGS: there is no setting 'floatY'; there are floatX, cast_policy, mode, device, "
    "matmul_precision, compute_test_value, on_unused_input, exception_verbosity, profile, fast_math",
)
def flags_unknown() -> object:
    return Config("floatY=float32")


@bad(
    ConfigError,
    "SYMTENSOR_FLAGS: config.floatX takes 'float16' or 'float32' or 'float64', not 'double'",
)
def flags_value() -> object:
    return Config("floatX=double")


# Shared variables ------------------------------------------------------------------------------------------


@bad(
    TypeError,
    "shared: the value must be an array or number, not the expression x",
)
def shared_expression() -> object:
    return shared(T.dvector("x"))


@bad(
    DTypeError,
    "shared: 'weights' is not numeric (NumPy gives it dtype <U7)",
)
def shared_text() -> object:
    return shared("weights")


@bad(
    TypeError,
    "shared(strict=True): the value must be a NumPy array, not list",
)
def shared_strict() -> object:
    return shared([1.0, 2.0], strict=True)


@bad(
    DTypeError,
    "set_value of s: float64 does not convert to float32 without loss; convert it: value.astype('float32')",
)
def set_value_dtype() -> None:
    state(np.zeros(3, "float32")).set_value(np.zeros(3))


@bad(
    ArgumentShapeError,
    "set_value of s: expected 1 dimension (TensorType(float64, vector)), got 2 (shape (3, 3))",
)
def set_value_rank() -> None:
    state(np.zeros(3)).set_value(np.zeros((3, 3)))


@bad(
    ArgumentShapeError,
    "set_value of r: axis 0 must have size 1, got shape (2, 3)",
)
def set_value_fixed_size() -> None:
    r = shared(np.zeros((1, 3)), "r", broadcastable=(True, False))
    r.set_value(np.zeros((2, 3)))


@bad(
    AttributeError,
    "use get_value() and set_value() instead of .value",
)
def shared_value_attribute() -> object:
    return state(1.0).value


@bad(
    ShapeError,
    "shared: the rows of a nested list must have equal lengths",
)
def shared_ragged() -> object:
    return shared([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("row", bad, ids=str)
def test_message(row: Row) -> None:
    check(row)
