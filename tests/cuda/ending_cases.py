"""Programs whose products end with a bias or a relu of the library's, and programs whose products almost do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import symtensor.tensor as T
from symtensor_codegen.cuda.matmul import fusion
from symtensor_codegen.cuda.matmul.endings import Ending, Relu
from tests.cuda.program_cases import Case

Array = np.ndarray[Any, Any]
MAXIMUM, BIAS = Relu(keeps_nan=True, keeps_sign=None), Ending(bias=True, relu=None)
RELU_BIAS, RELU = Ending(True, MAXIMUM), Ending(False, MAXIMUM)


def numbers(seed: int, *shape: int) -> Array:
    """Whole numbers: their sums are exact in any order."""
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(np.float32)


x, w, full, b = T.fmatrix("x"), T.fmatrix("w"), T.fmatrix("full"), T.fvector("b")
p = T.dot(x, w)
z = p + b

ENDINGS = {
    "a bias": (z, BIAS),
    "the bias first": (b + p, BIAS),
    "a row of a matrix": (p + full[0], BIAS),
    "other way round": (T.dot(x.T, w.T) + b, BIAS),
    "relu": (T.nnet.relu(p), RELU),
    "relu and bias": (T.nnet.relu(z), RELU_BIAS),
    "maximum": (T.maximum(z, 0), RELU_BIAS),
    "maximum, zero first": (T.maximum(0, z), RELU_BIAS),
    ">": (T.switch(z > 0, z, 0), Ending(True, Relu(False, False))),
    "> from the left": (T.switch(T.lt(0, z), z, 0), Ending(True, Relu(False, False))),
    ">=": (T.switch(z >= 0, z, 0), Ending(True, Relu(False, True))),
    "<": (T.switch(z < 0, 0, z), Ending(True, Relu(True, True))),
    "<=": (T.switch(p <= 0, 0, p), Ending(False, Relu(True, False))),
    "NaN apart": (T.switch(z > 0, z, T.switch(T.neq(z, z), z, 0)), Ending(True, Relu(True, False))),
}  # fmt: skip
NO_ENDINGS = {
    "Theano's relu": 0.5 * (z + abs(z)),  # NaN for -inf, and inf for large numbers
    "a mask": z * (z > 0),  # NaN for -inf
    "a leaky relu": T.nnet.relu(z, 0.1),
    "the other half": T.switch(z > 0, 0, z),
    "another number": T.maximum(z, 1),
    "the negative zero": T.maximum(z, -0.0),
    "one instead of zero": T.switch(z > 0, z, 1),
    "the bias as a bound": T.maximum(z, b),
    "without the bias": T.switch(z > 0, p, 0),
    "minus": p - b,
    "from the bias": b - p,
    "twice": z + b,
    "two of them": T.maximum(z + full[0], 0),
    "a matrix": p + full,
    "a part of a matrix": p + full[:, : b.shape[0]],
    "every other number": p + b[::2],
    "zero, and NaN": T.switch(z > 0, 0, T.switch(z < 0, 0, z)),
    "a number for each row": p + b.dimshuffle(0, "x"),
    "one number": p + b[0],
    "a later part": p + b[1:],
    "backwards": p + b[::-1],
    "a factor": 2 * p + b,
    "tanh": T.tanh(z),
    "float64": T.cast(z, "float64"),
}


def case(result: Any, sizes: tuple[int, int, int] = (3, 4, 4), of: Callable[..., Array] = numbers) -> Case:
    m, n, k = sizes
    return Case([x, w, full, b], [result], [of(0, m, k), of(1, k, n), of(2, m, n), of(3, n)])


def finish_of(result: Any) -> fusion.Finish:
    (finish,) = set(fusion.finishes_of(case(result).program).values())
    return finish
