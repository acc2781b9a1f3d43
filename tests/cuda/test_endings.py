"""Which kernels after a product are endings of the library's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor_codegen.cuda.matmul import fusion
from symtensor_codegen.cuda.matmul.endings import DISPUTED, Relu, ending_of, relu_seen
from symtensor_codegen.reference import run_kernel
from tests.cuda.ending_cases import ENDINGS, NO_ENDINGS, finish_of, numbers, p, w, x
from tests.cuda.program_cases import Case

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("name", ENDINGS)
def test_endings(name: str) -> None:
    result, wanted = ENDINGS[name]
    found = ending_of(finish_of(result))
    assert found is not None
    assert found.ending == wanted
    names = [buffer.name for buffer in finish_of(result).launch.kernel.buffers]
    assert names[found.bias].startswith(("b", "full")) if wanted.bias else found.bias == -1
    assert not names[found.result].startswith(("b", "full", "dot"))


@pytest.mark.parametrize("name", [name for name, (_, ending) in ENDINGS.items() if ending.relu is not None])
def test_relus_are_what_the_program_says(name: str) -> None:
    """The kernel, interpreted with what is disputed, finds the same relu; that of a maximum may have either zero."""
    result, ending = ENDINGS[name]
    finish = finish_of(result)
    kernel = finish.launch.kernel
    arrays = {finish.element: np.float32(DISPUTED) * np.float32(0.75)}
    arrays |= dict.fromkeys(kernel.written, np.empty(len(DISPUTED), np.float32))
    given = [arrays.get(buffer, np.float32([-0.0])) for buffer in kernel.buffers]
    with np.errstate(all="ignore"):
        run_kernel(kernel, given, [len(DISPUTED), 1][: len(kernel.parameters)])
    (written,) = kernel.written
    seen = relu_seen(list(arrays[written][:, None]))
    assert seen is not None
    assert ending.relu is not None
    assert not seen.difference(ending.relu)


@pytest.mark.parametrize("name", NO_ENDINGS)
def test_no_endings(name: str) -> None:
    assert ending_of(finish_of(NO_ENDINGS[name])) is None


def test_a_product_of_float64_has_none() -> None:
    u, v, c = T.dmatrix("u"), T.dmatrix("v"), T.dvector("c")
    for result in (T.dot(u, v) + c, T.nnet.relu(T.dot(u, v) + c)):
        made = Case([u, v, c], [result], [np.ones((2, 2)), np.ones((2, 2)), np.ones(2)])
        (finish,) = set(fusion.finishes_of(made.program).values())
        assert ending_of(finish) is None


def test_a_product_that_is_needed_elsewhere_has_none() -> None:
    made = Case([x, w], [p, T.nnet.relu(p)], [numbers(0, 3, 4), numbers(1, 4, 4)])
    (finish,) = set(fusion.finishes_of(made.program).values())
    assert ending_of(finish) is None


@pytest.mark.parametrize(
    ("relu", "seen"),
    [
        (lambda x: np.maximum(x, np.float32(0)), Relu(True, False)),
        (lambda x: np.fmax(x, np.float32(0)), Relu(False, False)),
        (lambda x: np.where(x < 0, np.float32(0), x), Relu(True, True)),
        (lambda x: np.where(x >= 0, x, np.float32(0)), Relu(False, True)),
        (lambda x: x, None),
        (lambda x: np.minimum(x, 1e9), None),
        (lambda x: np.where(np.isnan(x), -1, np.maximum(x, 0)), None),
        (lambda x: np.where(x < 0, -np.float32(0), np.maximum(x, 0)), None),
        (lambda x: np.where(np.arange(3) > 1, np.maximum(x, 0), np.fmax(x, 0)), None),
        (lambda x: np.where(np.arange(3) > 1, np.where(x < 0, 0, x), np.maximum(x, 0)), None),
        (lambda x: np.maximum(x, 0) / 2, None),
        (lambda x: np.where(x == np.inf, 9, np.maximum(x, 0)), None),
    ],
)
def test_relus_that_are_seen(relu: Callable[[Array], Array], seen: Relu | None) -> None:
    rows = np.repeat(np.float32(DISPUTED)[:, None] * np.float32(0.75), 3, axis=1)
    with np.errstate(all="ignore"):
        rows = relu(rows)
    assert relu_seen(list(rows)) == seen
