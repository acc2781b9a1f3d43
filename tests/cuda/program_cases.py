"""Programs with values, run on a device of NumPy arrays and by the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import symtensor
import symtensor.tensor as T
from symtensor import pipeline, scan
from symtensor.graph import Tensor
from symtensor.ifelse import ifelse
from symtensor.lower.plan import Plan, Result, plan
from symtensor.scan_module import until
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.backend import CompiledProgram, compile_program
from symtensor_codegen.cuda.calls import reporting
from symtensor_codegen.program import Program
from symtensor_codegen.reference.programs import ProgramFailure, run_program
from tests.cuda.numpy_device import NumpyDevice

Array = np.ndarray[Any, Any]


class Cell:
    """A shared variable on a device."""

    def __init__(self, device: Any, value: Array) -> None:
        self.array = DeviceArray.upload(device, value)


class OnDevice:
    """A program, with cells of these values, on a device of its own or another that has kernels interpreted."""

    def __init__(self, made: Program, cells: Sequence[Any] = (), device: Any = None, **options: Any) -> None:
        self.made, self.device = made, NumpyDevice(**options) if device is None else device
        self.cells = [Cell(self.device, np.asarray(value)) for value in cells]
        self.compiled: CompiledProgram = compile_program(
            made, self.device, emitter=self.device.emitter(), products=self.device.products
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


class Case:
    """A graph over inputs and shared variables with values; ``updates`` are next values of the latter, by position."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        values: Sequence[Any],
        cells: Sequence[Tensor] = (),
        updates: dict[int, Tensor] | None = None,
        held: Sequence[Any] = (),
        passes: bool = True,
    ) -> None:
        updates = updates or {}
        nodes = [*outputs, *updates.values()]
        if passes:
            nodes = list(pipeline.rewritten(nodes, pipeline.GRAPH_PASSES)[-1].outputs)
        results = [Result(n) for n in nodes[: len(outputs)]]
        results += [Result(n, k) for n, k in zip(nodes[len(outputs) :], updates, strict=True)]
        self.plan: Plan = plan("case", inputs, cells, results)
        self.program = self.plan.program
        self.inputs = [np.asarray(v, b.dtype.numpy) for v, b in zip(values, self.program.inputs, strict=True)]
        self.cells = [np.asarray(v, b.dtype.numpy) for v, b in zip(held, self.program.cells, strict=False)]
        self.cells += [c.data for c in self.plan.constants]

    def expected(self, cells: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The results of a call, and the cells after it."""
        after = [np.array(c) for c in cells]
        found = run_program(self.program, [np.array(v) for v in self.inputs], after)
        returned = []
        for output, array in zip(self.program.outputs, found, strict=True):
            if output.cell is None:
                returned.append(array)
            elif not output.in_place:
                after[output.cell] = array
        return returned, after

    def check(self, calls: int = 6) -> OnDevice:
        """Several calls, of host and of device arrays, whose updates add up."""
        for graphs in (True, False):
            for on_device in (False, True):
                run = OnDevice(self.program, self.cells, can_capture=graphs)
                arguments = run.uploaded(*self.inputs) if on_device else self.inputs
                cells = self.cells
                for _ in range(calls):
                    wanted, cells = self.expected(cells)
                    found = run(*arguments)
                    for one, other in zip((*found, *run.values), (*wanted, *cells), strict=True):
                        assert one.dtype == other.dtype
                        assert one.shape == other.shape
                        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
        return run


RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape)


def network() -> Case:
    """A step of training: products, gradients, updates in place."""
    x, y = T.dmatrix("x"), T.lvector("y")
    w, b, v = T.dmatrix("w"), T.dvector("b"), T.dmatrix("v")
    hidden = T.tanh(T.dot(x, w) + b)
    cost = -T.log(T.nnet.softmax(T.dot(hidden, v)))[T.arange(y.shape[0]), y].mean()
    parameters = [w, b, v]
    changes = symtensor.grad(cost, parameters)
    updates = {k: p - 0.1 * g for k, (p, g) in enumerate(zip(parameters, changes, strict=True))}
    held = [normal(4, 5), normal(5), normal(5, 3)]
    return Case([x, y], [cost], [normal(6, 4), [0, 1, 2, 0, 1, 2]], parameters, updates, held)


def exchange() -> Case:
    """Two variables of the same size get new memory in every call."""
    a, b = T.dvector("a"), T.dvector("b")
    return Case([], [a.sum()], [], [a, b], {0: b * 2 + a[::-1], 1: a - b[::-1]}, [normal(4), normal(4)])


def counting() -> Case:
    """Sizes that the call computes."""
    x = T.dmatrix("x")
    picked = x[x > 0]
    return Case([x], [picked, picked.shape[0] * 2, T.exp(picked).sum()], [normal(4, 5)])


def recurrent() -> Case:
    x, w, h = T.dmatrix("x"), T.dmatrix("w"), T.dvector("h")
    states, _ = scan(lambda row, s, w: T.tanh(T.dot(s, w) + row), x, h, w)
    cost = (states[-1] ** 2).sum()
    return Case([x, w, h], [states, *symtensor.grad(cost, [x, w, h])], [normal(7, 3), normal(3, 3), normal(3)])


def steps_of_an_input() -> Case:
    n, x = T.lscalar("n"), T.dvector("x")
    states, _ = scan(lambda s: T.concatenate([s[1:], s[:1] * 0.5]) + 1, outputs_info=x, n_steps=n)
    return Case([n, x], [states[-1]], [5, normal(3)])


def ending() -> Case:
    """A loop that ends when its state says so."""
    x, w = T.dvector("x"), T.dmatrix("w")

    def step(s: Tensor, w: Tensor) -> Any:
        new = T.dot(s, w) * 1.5
        return new, until((new**2).sum() > 50)

    states, _ = scan(step, outputs_info=x, non_sequences=w, n_steps=40)
    return Case([x, w], [states[-1], states.shape[0]], [np.ones(3), np.eye(3)[[1, 2, 0]]])


def lazily() -> Case:
    x, y, c = T.dvector("x"), T.dmatrix("y"), T.lscalar("c")
    chosen = ifelse(c > 2, T.exp(x).sum() + T.dot(y, x), T.dot(y, y.T)[0] * x[0])
    return Case([x, y, c], [chosen, chosen.sum()], [normal(3), normal(3, 3), 3])


def branch_on_a_sum() -> Case:
    x, y = T.dvector("x"), T.dmatrix("y")
    chosen = ifelse(x.sum() > 0, T.dot(y, x), x * 2)
    return Case([x, y], [chosen], [[1.0, -3.0, 1.0], normal(3, 3)])


def rows_in_place() -> Case:
    """A table of which some rows are changed, where it is."""
    table, rows, by = T.dmatrix("table"), T.lvector("rows"), T.dmatrix("by")
    changed = T.inc_subtensor(table[rows], by)
    return Case([rows, by], [by.sum()], [[0, 3, 0], normal(3, 2)], [table], {0: changed}, [normal(5, 2)])


CASES = [
    network, exchange, counting, recurrent, steps_of_an_input, ending, lazily, branch_on_a_sum, rows_in_place,
]  # fmt: skip


def on_device(case: Case, **options: Any) -> OnDevice:
    """A case on a device of its own."""
    return OnDevice(case.program, case.cells, **options)
