"""The module paths of Theano that programs import have the names they import from there."""

from importlib import import_module

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T

WANTED = {
    "symtensor.tensor.basic": "TensorVariable as_tensor dot sum matrix exp alloc",
    "symtensor.tensor.type": "TensorType",
    "symtensor.tensor.var": "TensorVariable TensorConstant TensorSharedVariable",
    "symtensor.tensor.subtensor": "inc_subtensor set_subtensor take",
    "symtensor.tensor.sharedvar": "TensorSharedVariable shared",
    "symtensor.tensor.inplace": "exp_inplace add_inplace sqr_inplace int_div_inplace transpose_inplace",
    "symtensor.tensor.extra_ops": "cumsum diff repeat squeeze to_one_hot bincount",
    "symtensor.tensor.nnet": "softmax sigmoid relu categorical_crossentropy",
    "symtensor.tensor.nnet.nnet": "softmax crossentropy_softmax_argmax_1hot_with_bias h_softmax",
    "symtensor.tensor.nnet.basic": "softmax relu",
    "symtensor.tensor.nnet.sigm": "sigmoid softplus hard_sigmoid ultra_fast_sigmoid",
    "symtensor.compile.sharedvalue": "SharedVariable shared",
    "symtensor.compile.io": "In Out SymbolicInput SymbolicOutput",
    "symtensor.compile.pfunc": "Param pfunc shared",
    "symtensor.compile.function_module": "Function UnusedInputError",
    "symtensor.compile.mode": "Mode get_mode FAST_RUN",
    "symtensor.gof": "Variable Constant Apply MissingInputError graph",
    "symtensor.gof.graph": "Variable Constant Apply inputs ancestors io_toposort is_same_graph clone",
    "symtensor.scalar": "upcast",
    "symtensor.updates": "OrderedUpdates",
    "symtensor.configdefaults": "config",
    "symtensor.configparser": "config TheanoConfigParser",
    "symtensor.misc.safe_asarray": "_asarray",
    "symtensor.gradient": "grad grad_clip disconnected_grad DisconnectedInputError",
    "symtensor.printing": "debugprint pp Print",
}


@pytest.mark.parametrize("path", WANTED)
def test_module(path: str) -> None:
    module = import_module(path)
    for name in WANTED[path].split():
        assert hasattr(module, name), name
    assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


def test_modules_are_attributes_as_in_theano() -> None:
    assert T.basic.dot is T.dot
    assert T.nnet.nnet.softmax is T.nnet.softmax
    assert symtensor.gof.graph.inputs([T.dscalar("x")])
    assert T.inplace.exp_inplace is T.exp
    assert T.type.TensorType is T.TensorType


def test_upcast_and_asarray() -> None:
    assert symtensor.scalar.upcast("int32", "float32", "int8") == "float64"
    assert symtensor.scalar.upcast("int8") == "int8"
    assert symtensor._asarray([1, 2], dtype="floatX").dtype == np.float64
    with pytest.raises(TypeError, match="upcast takes at least one"):
        symtensor.scalar.upcast()


def test_the_module_var_does_not_hide_the_function() -> None:
    import_module("symtensor.tensor.var")
    assert T.var(T.dvector("x")).ndim == 0
