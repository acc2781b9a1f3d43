"""``f.profile``: the time of every kernel of a function, measured by the compiled program itself."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from symtensor_codegen.program import COUNTERS, Gemm, Launch

from .report import table

if TYPE_CHECKING:
    from .pipeline import Compilation


def _nanoseconds(ticks: int) -> float:
    return 1e-9 * ticks


class StepProfile(NamedTuple):
    """One kernel or matrix product, over all calls so far.

    ``elements`` are iterations of the innermost loops (multiply-adds of a matrix product), ``bytes`` the
    sizes of all arrays read and written.
    """

    name: str
    calls: int
    seconds: float
    elements: int
    bytes: int
    is_product: bool

    @property
    def speed(self) -> str:
        """Arithmetic per second: GFLOP/s of matrix products, elements per second of loops."""
        if self.seconds == 0:
            return ""
        if self.is_product:
            return f"{2e-9 * self.elements / self.seconds:.2f} GFLOP/s"
        return f"{1e-9 * self.elements / self.seconds:.3f} Gelements/s"


class Profile:
    """Where the time of a function goes. ``print(f.profile)``, or ask ``steps`` for numbers.

    Every step is timed by the processor's clock, in the program and for every call, from whatever thread. The
    sum of the steps is less than ``seconds``: the rest goes to sizes, guards and memory. Neither counts what
    Python does before and after the program.

    On a device each step is waited for, and its time is that from its launch to its end: the sum is more than what a
    call without a profile takes, whose steps overlap with their launches.
    """

    def __init__(self, name: str, compilation: "Compilation", counters: npt.NDArray[Any] | None = None) -> None:
        """``counters``: those of a program on a device, which counts nanoseconds; native code gets some from here."""
        program = compilation.plan.program
        self.name = name
        self.milliseconds = dict(compilation.milliseconds)
        self._steps = program.timed_steps
        self._seconds: Callable[[int], float] = _nanoseconds
        if counters is None:
            from symtensor_codegen.llvm.clock import Rate

            self._seconds = Rate().seconds
            counters = np.zeros(COUNTERS * (len(self._steps) + 1), np.int64)
        self.counters = counters

    @property
    def calls(self) -> int:
        """How often the function has been called."""
        return int(self._rows()[-1, 0])

    @property
    def seconds(self) -> float:
        """Time inside the program, over all calls."""
        return self._seconds(int(self._rows()[-1, 1]))

    @property
    def steps(self) -> list[StepProfile]:
        """A row per kernel and matrix product, in the order they run in."""
        found = []
        for step, row in zip(self._steps, self._rows(), strict=False):
            calls, ticks, elements, traffic = (int(word) for word in row)
            name = step.kernel.name if isinstance(step, Launch) else f"matrix product {step.out.buffer.name}"
            found.append(StepProfile(name, calls, self._seconds(ticks), elements, traffic, isinstance(step, Gemm)))
        return found

    def reset(self) -> None:
        """Forget what has been counted."""
        self.counters[:] = 0

    def summary(self, file: TextIO = sys.stderr) -> None:
        """Print it (Theano's name)."""
        file.write(f"{self}\n")

    def _rows(self) -> npt.NDArray[Any]:
        return self.counters.reshape(-1, COUNTERS)

    def __str__(self) -> str:
        calls, seconds = self.calls, self.seconds
        mean = f", {1e6 * seconds / calls:.2f} us a call" if calls else ""
        phases = ", ".join(f"{phase} {time:.1f} ms" for phase, time in self.milliseconds.items())
        rows = [
            (
                one.name,
                str(one.calls),
                f"{1e3 * one.seconds:.3f}",
                f"{100 * one.seconds / seconds:.1f}" if seconds else "",
                f"{1e6 * one.seconds / one.calls:.2f}" if one.calls else "",
                str(one.bytes),
                f"{1e-9 * one.bytes / one.seconds:.2f}" if one.seconds else "",
                one.speed,
            )
            for one in self.steps
        ]
        header = ("step", "calls", "ms", "%", "us a call", "bytes", "GB/s", "speed")
        return (
            f"{self.name}: {calls} calls, {1e3 * seconds:.3f} ms in the program{mean}\n"
            f"compiled: {phases}\n\n{table(header, rows)}"
        )
