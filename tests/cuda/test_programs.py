"""How programs are carried out on a device: the same as in the reference interpreter, whatever is recorded or replayed.

The device is one of NumPy arrays whose kernels are run by the interpreter, so that only the execution is under test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import pipeline, shared
from symtensor.graph import Tensor
from symtensor.loops import scan  # noqa: F401
from symtensor.lower.plan import Plan, Result, plan
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda import reporting
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.backend import CompiledProgram, compile_program
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.program import Program
from symtensor_codegen.reference.programs import ProgramFailure, run_program
from tests.codegen import test_program_loops as loops
from tests.cuda.numpy_device import NumpyDevice

Array = np.ndarray[Any, Any]


class Cell:
    """A shared variable on a device."""

    def __init__(self, device: NumpyDevice, value: Array) -> None:
        self.array = DeviceArray.upload(device, value)


class OnDevice:
    """A program on a device of its own, with cells of these values."""

    def __init__(self, made: Program, cells: Sequence[Any] = (), **options: Any) -> None:
        self.made, self.device = made, NumpyDevice(**options)
        self.cells = [Cell(self.device, np.asarray(value)) for value in cells]
        self.compiled: CompiledProgram = compile_program(
            made, self.device, self.device.emitter(), self.device.products
        )

    def __call__(self, *inputs: Any) -> list[Array]:
        given = [self.conforming(a, b.dtype.numpy) for a, b in zip(inputs, self.made.inputs, strict=True)]
        try:
            return [result.numpy() for result in self.compiled.call(given, self.cells)]
        except reporting.ProgramFailure as failure:
            raise ProgramFailure(failure.message, failure.values_seen) from None

    @staticmethod
    def conforming(array: Any, dtype: Any) -> Any:
        return array if isinstance(array, DeviceArray) else np.asarray(array, dtype, order="C")

    def uploaded(self, *inputs: Any) -> list[DeviceArray]:
        return [
            DeviceArray.upload(self.device, np.asarray(a, b.dtype.numpy))
            for a, b in zip(inputs, self.made.inputs, strict=True)
        ]

    @property
    def values(self) -> list[Array]:
        """The values of the cells now."""
        return [cell.array.numpy() for cell in self.cells]


def both(made: Program, *inputs: Any) -> list[Array]:
    """The results, from the interpreter; on the device they are the same in every call of several."""
    expected = run_program(made, [np.array(a, b.dtype.numpy) for a, b in zip(inputs, made.inputs, strict=True)], [])
    for graphs in (True, False):
        run = OnDevice(made, can_capture=graphs)
        for arguments in (*[inputs] * 4, *[run.uploaded(*inputs)] * 3):
            for one, other in zip(run(*arguments), expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12)
    return expected


# The programs of the suite for host programs --------------------------------------------------------------------------

SUITE: list[Callable[[], None]] = [
    *[lambda n=n: loops.test_two_places_of_a_state(n) for n in (-3, 0, 1, 2, 5)],  # type: ignore[misc]
    *[lambda n=n: loops.test_three_places(n) for n in range(5)],  # type: ignore[misc]
    lambda: loops.test_rows(False),
    lambda: loops.test_rows(True),
    *[lambda a=a: loops.test_until(*a) for a in ((0.5, 1), (10.0, 4), (1e9, 7))],  # type: ignore[misc]
    loops.test_the_step_number_is_known_in_kernels_and_guards,
    loops.test_nested_loops_exchange_memory_of_the_loop_around,
    loops.test_matrix_powers,
    lambda: loops.test_memory_of_steps_is_given_back(10),
    loops.test_sizes_read_in_a_step,
    loops.test_a_kernel_fails_in_a_step,
    loops.test_branches,
    loops.test_a_branch_that_is_not_taken_does_nothing,
    loops.test_a_branch_inside_a_loop_inside_a_branch,
]


@pytest.mark.parametrize("test", SUITE)
def test_suite_of_host_programs(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "both", both)
    monkeypatch.setattr(loops, "native", OnDevice)
    test()
