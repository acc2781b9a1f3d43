"""Every walk over a graph works at any depth: shown on chains of 100,000 operations."""

import copy
import pickle
from collections.abc import Iterator
from time import perf_counter

import pytest

import symtensor.tensor as T
from symtensor import clone
from symtensor.differentiation import Rop, grad, hessian_vector_product
from symtensor.graph import Tensor, ancestors
from symtensor.printing import debugprint, dot_text, pp
from symtensor.reference import evaluate

LENGTH = 100_000


@pytest.fixture(scope="module")
def chain() -> tuple[Tensor, Tensor, Tensor]:
    x, y = T.dscalar("x"), T.dscalar("y")
    z = x
    for k in range(LENGTH):
        z = z * y if k % 2 else T.sin(z)
    return x, y, z


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """A walk that is not linear would take hours; the limit is generous for busy machines."""
    start = perf_counter()
    yield
    assert perf_counter() - start < 30


def test_gradient(chain: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, z = chain
    gradients = grad(z, [x, y])
    assert len(ancestors(gradients)) < 6 * LENGTH


def test_gradient_of_a_product_chain() -> None:
    x = T.dscalar("x")
    z = x
    for _ in range(2000):
        z = z * 1.001
    assert evaluate([grad(z, x)], {x: 2.0})[0] == pytest.approx(1.001**2000)


def test_second_sweeps() -> None:
    x = T.dscalar("x")
    z = x
    for _ in range(LENGTH // 10):
        z = T.sin(z)
    assert len(ancestors([Rop(z, x, T.dscalar()), hessian_vector_product(z, x, T.dscalar())])) < 3 * LENGTH


def test_printing(chain: tuple[Tensor, Tensor, Tensor]) -> None:
    text = debugprint(chain[2], file="str")
    assert text.count("\n") == LENGTH + LENGTH // 2
    assert len(text) < 100 * LENGTH
    assert len(pp(chain[2])) < 100 * LENGTH
    assert dot_text(chain[2]).count("->") == LENGTH + LENGTH // 2


def test_pickle(chain: tuple[Tensor, Tensor, Tensor]) -> None:
    data = pickle.dumps(chain)
    assert len(data) < 60 * LENGTH
    x, y, z = pickle.loads(data)
    assert set(ancestors([z])) >= {x, y}
    assert z is not chain[2]
    assert clone(z, {x: chain[0], y: chain[1]}) is chain[2]


def test_deepcopy(chain: tuple[Tensor, Tensor, Tensor]) -> None:
    x, _, z = copy.deepcopy(chain)
    assert x in ancestors([z])
    assert z is not chain[2]


def test_clone(chain: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, z = chain
    w = clone(z, {x: y})
    assert x not in ancestors([w])
    assert len(ancestors([w])) == LENGTH + 1


def test_reference_evaluation(chain: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, z = chain
    assert abs(evaluate([z], {x: 0.5, y: 1.0})[0]) < 0.5


def test_freeing() -> None:
    z = T.dscalar()
    for _ in range(LENGTH):
        z = T.sin(z)
    del z
