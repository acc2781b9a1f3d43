"""Points 41 and 42 of Theano's semantics: printing, walking graphs, test values, flags."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import config, function, shared
from symtensor.printing import Print
from symtensor.settings import Config
from symtensor.test_values import MissingTestValueError


def test_41_namespaces_are_attributes() -> None:
    x = symtensor.tensor.dscalar("x")
    assert symtensor.printing.debugprint(x + 1, file="str").startswith("add [id A]")
    assert symtensor.pp(symtensor.dot(x, 2)) == "x * 2.0"
    assert symtensor.gradient.disconnected_grad is T.disconnected_grad
    assert isinstance(x, symtensor.Variable)
    assert isinstance(T.constant(1), symtensor.Constant)
    assert isinstance((x + 1).owner, symtensor.Apply)


def test_41_text_and_owners() -> None:
    x, y = T.fmatrices("x", "y")
    z = T.exp(x) + y
    assert (str(x.type), str(T.constant(2)), str(z)) == ("TensorType(float32, matrix)", "TensorConstant{2}", "add.0")
    assert z.owner.op == T.add
    assert z.owner.inputs[0].owner.op == T.exp
    assert x.owner is None
    assert T.arange(3).owner is not None
    assert symtensor.pp(T.arange(3) * 2) == "arange(3) * 2"


@pytest.mark.parametrize("mode", ["fast_run", "fast_compile", "debug", "nan_guard", "reference"])
def test_41_print_shows_values_in_every_call(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    x, total = T.dvector("x"), shared(0.0)
    doubled = Print("doubled", attrs=["shape", "min"])(x * 2)
    y = Print("sum")(doubled.sum())
    f = function([x], {"y": y}, updates={total: total + y}, mode=mode)
    assert capsys.readouterr().out == ""
    for _ in range(2):
        assert f([1.0, 2.0]) == {"y": 6.0}
        assert capsys.readouterr().out == "doubled shape = (2,)\ndoubled min = 2.0\nsum __str__ = 6.0\n"
    assert total.get_value() == 12.0


def test_41_print_and_gradients_pickles_copies(capsys: pytest.CaptureFixture[str]) -> None:
    import pickle

    x = T.dscalar("x")
    f = function([x], T.grad(Print("x²")(x**2) * 3, x))
    assert f(2.0) == 12.0
    assert capsys.readouterr().out == ""  # the gradient does not need the value of x²
    g = function([x], Print("x²")(x**2) + 1)
    for other in (g, g.copy(), pickle.loads(pickle.dumps(g))):
        assert other(2.0) == 5.0
        assert capsys.readouterr().out == "x² __str__ = 4.0\n"


def test_41_print_shows_nothing_of_a_call_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    x, k = T.dvector("x"), T.lscalar("k")
    f = function([x, k], Print("x")(x)[k])
    with pytest.raises(IndexError):
        f([1.0], 3)
    assert capsys.readouterr().out == ""
    with pytest.raises(AttributeError, match="arrays have no attribute 'colour'"):
        Print("x", attrs=["colour"])


def test_41_print_does_not_hide_fragile_forms(capsys: pytest.CaptureFixture[str]) -> None:
    x = T.dvector("x")
    assert function([x], T.log(Print("p")(T.nnet.sigmoid(x))))([-1000.0]).tolist() == [-1000.0]
    assert capsys.readouterr().out == "p __str__ = [0.]\n"


# Test values -----------------------------------------------------------------------------------------------


@pytest.fixture
def raising() -> Iterator[None]:
    with config.change(compute_test_value="raise"):
        yield


@pytest.mark.usefixtures("raising")
def test_41_test_values_are_computed_at_once() -> None:
    x, w = T.dmatrix("x"), shared(np.full((4, 2), 2.0), "w")
    x.tag.test_value = np.ones((3, 4))
    y = T.dot(x, w) + np.arange(2)
    assert y.tag.test_value.tolist() == [[8.0, 9.0]] * 3
    gradient = T.grad(y.sum(), w)
    assert gradient.tag.test_value.tolist() == [[3.0, 3.0]] * 4
    assert (w - gradient / 3).tag.test_value.tolist() == [[1.0, 1.0]] * 4
    assert T.as_tensor_variable(3.0).eval() == 3.0


@pytest.mark.usefixtures("raising")
def test_41_wrong_shapes_are_found_on_their_line() -> None:
    x, w = T.dmatrix("x"), shared(np.ones((5, 2)), "w")
    x.tag.test_value = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"x has 4 columns .*w has 5 rows .*\(test_debugging.py:\d+\)$"):
        T.dot(x, w)
    x.tag.test_value = np.ones((3, 5))
    y = T.dot(x, w)
    with pytest.raises(ValueError, match="sizes differ on axis"):
        y + T.as_tensor_variable(np.ones(3)).dimshuffle(0, "x")[:, [0, 0, 0]]


@pytest.mark.usefixtures("raising")
def test_41_test_values_follow_the_inputs() -> None:
    x = T.dvector("x")
    x.tag.test_value = [1.0, 2.0]
    first = (x * 2).tag.test_value
    x.tag.test_value = [3.0]
    assert first.tolist() == [2.0, 4.0]
    assert (x * 2).tag.test_value.tolist() == [6.0]
    for wrong in ([[1.0]], np.array([1j])):
        x.tag.test_value = wrong
        with pytest.raises(TypeError, match="test value of x"):
            x * 2


def test_41_variables_without_test_values() -> None:
    x = T.dvector("x")
    with (
        config.change(compute_test_value="raise"),
        pytest.raises(MissingTestValueError, match=r"x: .*has no value; set its tag.test_value"),
    ):
        x * 2
    with config.change(compute_test_value="warn"), pytest.warns(UserWarning, match=r"x: .*has no value"):
        x * 3
    with config.change(compute_test_value="ignore"):
        assert not hasattr((x * 4).tag, "test_value")
    assert not hasattr((x * 5).tag, "test_value")
    x.tag.test_value = [1.0]
    y = x * 6
    assert not hasattr(y.tag, "test_value")
    with config.change(compute_test_value="ignore"):
        assert (y + 1).tag.test_value.tolist() == [7.0]  # what was built while they were off is made up for


@pytest.mark.usefixtures("raising")
def test_41_compiling_computes_no_test_values() -> None:
    x = T.dvector("x")
    x.tag.test_value = [1.0]
    cost = T.log(T.nnet.sigmoid(x)).sum()
    gradient = T.grad(cost, x)
    x.tag.test_value = "what is no value"
    assert function([x], gradient)([0.0]) == 0.5


# 42: settings of the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("floatX=float32,device=cpu,cxx=,base_compiledir=/tmp", ("float32", "fast_run")),
        ("floatX=float32, optimizer=fast_compile", ("float32", "fast_compile")),
        ("mode=FAST_COMPILE,device=gpu0,lib.cnmem=1", ("float64", "fast_compile")),
        ("mode=FAST_RUN,optimizer=fast_compile", ("float64", "fast_run")),
        ("mode=Mode,optimizer=None,floatX=float64", ("float64", "fast_compile")),
        ("mode=DebugMode", ("float64", "debug")),
        ("mode=ProfileMode,profile=True", ("float64", "fast_run")),
        ("", ("float64", "fast_run")),
    ],
)
def test_42_theano_flags_are_read(flags: str, expected: tuple[str, str]) -> None:
    settings = Config("", flags)
    assert (settings.floatX, settings.mode) == expected
    assert Config("floatX=float16,mode=reference", flags).mode == "reference"


def test_42_theano_flags_are_read_at_import() -> None:
    path = os.pathsep.join(filter(None, sys.path))
    told = subprocess.run(
        [sys.executable, "-c", "import symtensor.tensor as T; print(T.matrix().dtype, T.ones(2).dtype)"],
        env={**os.environ, "THEANO_FLAGS": "floatX=float32,device=cpu", "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == ["float32", "float32"]


@pytest.mark.parametrize("linker", ["cvm", "py", "cvm_nogc", "c|py"])
def test_42_theanos_linkers(linker: str) -> None:
    x = T.dvector("x")
    assert function([x], x * 2, mode=symtensor.Mode(linker=linker))([1.0, 2.0]).tolist() == [2.0, 4.0]
