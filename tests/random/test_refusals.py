"""What random streams refuse, when a variable is made or when it is drawn."""

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor.random import RandomStream, RandomStreams
from symtensor_codegen.errors import DTypeError, ShapeError

REFUSED = {
    "p": (ValueError, r"probability must lie in \[0, 1\]", lambda s: s.binomial((3,), p=1.5)),
    "nan": (ValueError, r"probability must lie", lambda s: s.binomial((3,), n=5, p=float("nan"))),
    "n": (ValueError, "n must not be negative", lambda s: s.binomial((3,), n=-1, p=0.5)),
    "std": (ValueError, "standard deviation must not be negative", lambda s: s.normal((3,), std=-1.0)),
    "range": (ValueError, "there are none from 3 to 2", lambda s: s.random_integers((3,), 3, 2)),
    "pvals": (ValueError, "must sum to 1", lambda s: s.multinomial(pvals=[0.5, 0.4])),
    "negative pvals": (ValueError, "must not be negative", lambda s: s.multinomial(pvals=[1.5, -0.5])),
    "scalar pvals": (ShapeError, "probabilities are a vector", lambda s: s.multinomial(pvals=1.0)),
    "size": (ValueError, "a size is negative: -2", lambda s: s.uniform((3, -2))),
    "ndim": (ValueError, "ndim is 3, but there are 2 sizes", lambda s: s.uniform((3, 2), ndim=3)),
    "float size": (DTypeError, "a size must be an integer", lambda s: s.uniform((3.5,))),
    "dtype": (DTypeError, "floating-point dtype, not int32", lambda s: s.uniform((3,), dtype="int32")),
    "complex": (DTypeError, "complex", lambda s: s.normal((3,), avg=1j)),
    "float bound": (DTypeError, "takes integers", lambda s: s.random_integers((3,), 0, 2.5)),
    "parameter": (ShapeError, "more axes than size", lambda s: s.normal((3,), avg=np.zeros((2, 3)))),
    "mismatch": (ShapeError, "2", lambda s: s.normal((3,), avg=np.zeros(2))),
    "too many": (ValueError, "5 different elements of 4", lambda s: s.choice((5,), 4, replace=False)),
    "matrix": (ShapeError, "number or a vector", lambda s: s.choice((5,), np.zeros((2, 2)))),
    "weights": (ShapeError, "for 4 elements", lambda s: s.choice((5,), 4, p=[0.5, 0.5])),
    "length": (ValueError, "length is negative", lambda s: s.permutation(n=-1)),
    "rows": (ShapeError, "matrix or vector", lambda s: s.shuffle_row_elements(np.zeros((2, 2, 2)))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_built(case):
    error, message, make = REFUSED[case]
    with pytest.raises(error, match=message):
        make(RandomStreams(1))


def test_a_probability_that_is_wrong_when_drawn():
    p = T.dscalar("p")
    v = RandomStreams(1).binomial((4,), n=10, p=p)
    f = symtensor.function([p], v)
    before = v.rng.get_value()
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"test_refusals.py.*a probability is outside of \[0, 1\]"):
            f(wrong)
    np.testing.assert_array_equal(v.rng.get_value(), before)
    assert f(0.5).shape == (4,)


def test_a_count_that_is_wrong_when_drawn():
    n = T.lscalar("n")
    f = symtensor.function([n], RandomStreams(1).binomial((4,), n=n, p=0.5))
    with pytest.raises(ValueError, match="n is negative"):
        f(-1)
    f = symtensor.function([n], RandomStreams(1).multinomial(n=n, pvals=[0.5, 0.5]))
    with pytest.raises(ValueError, match="n is negative"):
        f(-1)


def test_weights_that_are_wrong_when_drawn():
    p = T.dvector("p")
    f = symtensor.function([p], RandomStreams(1).multinomial(n=5, pvals=p))
    with pytest.raises(ValueError, match="finite and not negative"):
        f([0.5, -0.5, 1.0])


def test_sizes_that_are_wrong_when_drawn():
    n, x = T.lscalar("n"), T.dvector("x")
    f = symtensor.function([n], RandomStreams(1).uniform((n,)))
    with pytest.raises(ShapeError, match="negative"):
        f(-1)
    f = symtensor.function([x], RandomStreams(1).normal((3,), avg=x))
    assert f(np.zeros(3)).shape == (3,)
    with pytest.raises(ShapeError):
        f(np.zeros(2))
    f = symtensor.function([n], RandomStreams(1).choice((n,), 4, replace=False))
    assert f(4).shape == (4,)
    with pytest.raises(ShapeError):
        f(5)


def test_pytensors_streams_take_sizes_by_name():
    with pytest.raises(TypeError):
        RandomStream(1).normal(0.0, 1.0, (3,))
