"""Matrix products with operands in memory, and what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.cuda.calls.steps import Product

Array = np.ndarray[Any, Any]


class Case:
    """Operands in memory of a device: which way round, with gaps, and what the product should be."""

    def __init__(
        self, device: Any, dtype: str, m: int, n: int, k: int, turned: tuple[bool, bool] = (False, False),
        batch: int = 1, alpha: float = 1.0, beta: float = 0.0, gap: int = 0, shift: int = 0,
    ) -> None:  # fmt: skip
        self.device, self.random = device, np.random.default_rng(m + 7 * n + 31 * k)
        self.dtype, self.batch, self.gap, self.shift = np.dtype(dtype), batch, gap, shift
        self.a, a = self.matrix(m, k, turned[0])
        self.b, b = self.matrix(k, n, turned[1])
        self.out, out = self.matrix(m, n, False)
        if beta == 0:
            self.out[:] = np.nan  # must not be read
        strides = [self.strides(matrix) for matrix in (out, a, b)]
        self.product = Product(getattr(dtypes, dtype), m, n, k, batch, *strides, alpha, beta)
        wide = np.result_type(self.dtype, np.float64)
        self.expected = alpha * (a.astype(wide) @ b.astype(wide)) + (beta * out.astype(wide) if beta else 0)
        self.terms = k
        self.blocks = [device.allocate(array.nbytes) for array in (self.out, self.a, self.b)]

    def matrix(self, rows: int, columns: int, turned: bool) -> tuple[Array, Array]:
        if turned:
            flat, matrix = self.matrix(columns, rows, False)
            return flat, matrix.transpose(0, 2, 1)
        line = columns + self.gap
        size = self.shift + self.batch * rows * line
        flat = self.random.standard_normal(size) + (
            1j * self.random.standard_normal(size) if self.dtype.kind == "c" else 0
        )
        flat = flat.astype(self.dtype)
        return flat, flat[self.shift :].reshape(self.batch, rows, line)[:, :, :columns]

    def strides(self, matrix: Array) -> tuple[int, int, int]:
        batch, row, column = (stride // self.dtype.itemsize for stride in matrix.strides)
        return row, column, batch

    def addresses(self) -> list[int]:
        for block, array in zip(self.blocks, (self.out, self.a, self.b), strict=True):
            self.device.upload(block.address, array)
        return [block.address + self.shift * self.dtype.itemsize for block in self.blocks]

    def check(self, multiply: Any) -> None:
        multiply(*self.addresses())
        found = self.out.copy()
        self.device.download(found, self.blocks[0].address)
        m, n = self.product.m, self.product.n
        lines = [flat[self.shift :].reshape(self.batch, m, n + self.gap) for flat in (found, self.out)]
        bound = float(np.finfo(self.dtype).eps) * 32 * max(self.terms, 1) ** 0.5
        np.testing.assert_allclose(lines[0][:, :, :n], self.expected, rtol=0, atol=bound)
        np.testing.assert_array_equal(lines[0][:, :, n:], lines[1][:, :, n:])  # gaps are left alone
        np.testing.assert_array_equal(found[: self.shift], self.out[: self.shift])
