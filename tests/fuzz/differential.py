"""Compile a random program in several ways and compare each with the reference evaluator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import symtensor
from symtensor.graph import Tensor
from symtensor.lower.plan import Result, plan
from symtensor_codegen.errors import UserError
from symtensor_codegen.reference.programs import ProgramFailure, run_program

from .graphs import SIZES, Leaf, Program
from .rounding import Exact, allowed, mismatch

Array = npt.NDArray[Any]


class Task:
    """What is compiled: outputs, updates of shared variables, and the leaves they use."""

    def __init__(self, program: Program, outputs: Sequence[Tensor], updates: Sequence[tuple[Leaf, Tensor]]) -> None:
        self.outputs, self.updates = list(outputs), list(updates)
        used = set(symtensor.graph.ancestors([*outputs, *[value for _, value in updates]]))
        self.inputs = [le for le in program.leaves if not is_shared(le) and le.variable in used]
        targets = [le for le, _ in updates]
        self.cells = [le for le in program.leaves if is_shared(le) and (le.variable in used or le in targets)]

    @property
    def results(self) -> list[Tensor]:
        return [*self.outputs, *[value for _, value in self.updates]]

    def expected(self, sizes: Sequence[int], state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The values of the results, and how far each may be off."""
        values = {le.variable: le.value(sizes) for le in self.inputs}
        values |= {le.variable: array for le, array in zip(self.cells, state, strict=True)}
        plain = Exact(values)
        return [plain.value(r) for r in self.results], allowed(self.results, values, plain)

    def start(self, sizes: Sequence[int]) -> list[Array]:
        return [le.value(sizes) for le in self.cells]


def is_shared(leaf: Leaf) -> bool:
    return isinstance(leaf.variable, symtensor.SharedVariable)


def task(program: Program, numbers: Sequence[int]) -> Task:
    """Outputs and updates picked from the pool: the last tensor, others by number, updates where types agree."""
    outputs = [program.pool[-1]]
    for number in numbers[:2]:
        other = program.pool[-1 - number % len(program.pool)]
        if other not in outputs:
            outputs.append(other)
    updates = []
    for position, leaf in enumerate(le for le in program.leaves if is_shared(le)):
        old = leaf.variable
        suited = [t for t in program.pool if _replaces(old, t)]
        number = numbers[2 + position % (len(numbers) - 2)]
        if suited and number % 4:
            updates.append((leaf, suited[-1 - number % len(suited)]))
    return Task(program, outputs, updates)


def _replaces(old: Tensor, new: Tensor) -> bool:
    pairs = zip(old.type.shape, new.type.shape, strict=True) if old.ndim == new.ndim else ()
    return old.element is new.element and old.ndim == new.ndim and all(a is None or a == b for a, b in pairs)


def check_function(made: Task, program: Program, mode: str) -> None:
    """Compile, call with several sizes, and compare results, updates and what must not change."""
    updates = [(leaf.variable, value) for leaf, value in made.updates]
    compiled = symtensor.function([le.variable for le in made.inputs], made.outputs, updates=updates, mode=mode)
    rows = [program.sizes, program.sizes, *[sizes for sizes in SIZES if sizes != program.sizes]]
    fresh = True
    for number, sizes in enumerate(rows):
        if number != 1 or not fresh:
            for leaf, value in zip(made.cells, made.start(sizes), strict=True):
                leaf.variable.set_value(value)  # type: ignore[attr-defined]
        before = [leaf.variable.get_value() for leaf in made.cells]  # type: ignore[attr-defined]
        arguments = [leaf.value(sizes) for leaf in made.inputs]
        kept = [a.copy() for a in arguments]
        try:
            wanted, limits = made.expected(sizes, before)
        except (UserError, ValueError, IndexError):
            _call_that_may_fail(compiled, arguments, made, before)
            continue
        results = compiled(*arguments)
        state = [leaf.variable.get_value() for leaf in made.cells]  # type: ignore[attr-defined]
        changed = {id(leaf): want for (leaf, _), want in zip(made.updates, wanted[len(made.outputs) :], strict=True)}
        after = [changed.get(id(leaf), old) for leaf, old in zip(made.cells, before, strict=True)]
        found = [*results, *[state[made.cells.index(leaf)] for leaf, _ in made.updates]]
        for position, (got, want, limit) in enumerate(zip(found, wanted, limits, strict=True)):
            wrong = mismatch(got, want, limit)
            assert wrong is None, f"{mode}, sizes {sizes}, call {number}, result {position}: {wrong}"
        for leaf, got, want in zip(made.cells, state, after, strict=True):
            assert got.shape == want.shape, f"{leaf.variable} has the wrong shape"
            if id(leaf) not in changed:
                assert got.tobytes() == want.tobytes(), f"{leaf.variable} was changed without an update"
        for now, then in zip(arguments, kept, strict=True):
            assert now.tobytes() == then.tobytes(), "an argument was changed"


def _call_that_may_fail(compiled: Any, arguments: list[Array], made: Task, before: list[Array]) -> None:
    """The reference refuses these sizes. A compiled function may not need what was wrong, but never commits half."""
    try:
        compiled(*arguments)
    except (UserError, ValueError, IndexError):
        for leaf, old in zip(made.cells, before, strict=True):
            now = leaf.variable.get_value()  # type: ignore[attr-defined]
            assert now.shape == old.shape, "a failed call changed a variable"
            assert now.tobytes() == old.tobytes(), "a failed call changed a variable"


def check_program(made: Task, program: Program) -> None:
    """The lowered program, without any rewriting, run by the interpreter of kernels."""
    cells = [le.variable for le in made.cells]
    results = [Result(o) for o in made.outputs]
    results += [Result(value, made.cells.index(leaf)) for leaf, value in made.updates]
    lowered = plan("fuzz", [le.variable for le in made.inputs], cells, results)
    state = made.start(program.sizes)
    wanted, limits = made.expected(program.sizes, state)
    memory = [a.copy() for a in (*state, *[c.data for c in lowered.constants])]
    try:
        found = run_program(lowered.program, [le.value(program.sizes) for le in made.inputs], memory)
    except ProgramFailure as failed:
        raise AssertionError(f"the program failed: {failed}") from failed
    for position, (got, want, limit) in enumerate(zip(found, wanted, limits, strict=True)):
        wrong = mismatch(got, want, limit)
        assert wrong is None, f"interpreted, result {position}: {wrong}"


def largest(made: Task, program: Program) -> int:
    """Elements of the largest tensor, to keep the interpreter to small programs."""
    nodes = symtensor.graph.ancestors(made.results)
    return max(int(np.prod(program.values.value(n).shape)) for n in nodes if n.op.name != "dim")
