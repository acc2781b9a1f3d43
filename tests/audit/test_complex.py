"""Products, conditions and order of complex numbers."""

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor_codegen.errors import DTypeError

VALUES = np.array([[1 + 2j, 0, -1j], [2, 3 - 1j, 0.5 + 0.5j]])


@pytest.mark.parametrize("mode", ["fast_run", "debug", "reference"])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_products_and_conditions(mode: str, dtype: str) -> None:
    z = T.matrix("z", dtype=dtype)
    value = VALUES.astype(dtype)
    outputs = [
        T.prod(z), T.prod(z, 0), T.prod(z, 1, keepdims=True), T.cumprod(z, 1), T.cumprod(z), T.any(z, 0), T.all(z, 1),
        T.logical_not(z), T.logical_and(z, z.conj()), T.logical_or(z, 0), T.logical_xor(z, 1), T.switch(z, 1, 0),
        T.prod(z[:0], 0), T.eq(z, z.conj()),
    ]  # fmt: skip
    wanted = [
        np.prod(value), np.prod(value, 0), np.prod(value, 1, keepdims=True), np.cumprod(value, 1), np.cumprod(value),
        np.any(value, 0), np.all(value, 1), np.logical_not(value), np.logical_and(value, value.conj()),
        np.logical_or(value, 0), np.logical_xor(value, 1), np.where(value, 1, 0), np.prod(value[:0], 0),
        value == value.conj(),
    ]  # fmt: skip
    for got, want in zip(symtensor.function([z], outputs, mode=mode)(value), wanted, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6 if dtype == "complex64" else 1e-14)


@pytest.mark.parametrize("function", [T.max, T.min, T.argmax, T.argmin, lambda z: T.maximum(z, 1), lambda z: z < 1])
def test_order_is_refused(function) -> None:
    with pytest.raises(DTypeError, match="does not take complex128"):
        function(T.zvector("z"))


def test_gradients_are_refused() -> None:
    z = T.zvector("z")
    with pytest.raises((DTypeError, symtensor.gradient.GradientError)):
        symtensor.grad(abs(T.prod(z)), z)
