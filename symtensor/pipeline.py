"""The whole compiler on one screen: from a user's expressions to a native program."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, NamedTuple

from symtensor_codegen.errors import InternalError
from symtensor_codegen.program import Program, with_counters
from symtensor_codegen.scalar import Scalar

from .collecting import no_collection
from .devices import CPU, architecture_of, only_compiles, opened
from .graph import Tensor, ancestors
from .loops.branches import has_branches, settle_branches
from .loops.passes import has_loops, settle
from .lower.plan import Plan, Result, plan
from .lower.registers import is_worth_it
from .ops.loop_records import LOOP
from .settings import config


@dataclass(frozen=True, slots=True)
class Pass:
    """One rewrite of the graph: its name, why it is there, and the rule set it applies (made when first needed)."""

    name: str
    why: str
    rules: Callable[[], Any]


def _rules(name: str) -> Callable[[], Any]:
    def load() -> Any:
        from . import rules

        return rules.ruleset_named(name)

    return load


GRAPH_PASSES = (
    Pass("canonical", "one spelling per expression; constants are folded", _rules("algebra")),
    Pass("shapes", "cancel reshapes, transposes, casts and slices; needs canonical indices", _rules("layout")),
    Pass("stability", "replace fragile forms by exact equivalents; needs the canonical spelling", _rules("stability")),
    Pass("specialise", "cheaper operations for special operands; last, so that no rule has to know them",
         _rules("specialise")),
)

class Structure(NamedTuple):
    """A pass over branches or loops, where there are any; their bodies are rewritten by the passes over graphs."""

    name: str
    why: str
    present: Callable[[Sequence[Tensor]], bool]
    settled: Callable[[Sequence[Tensor], Callable[[Sequence[Tensor]], list[Tensor]]], list[Tensor]]


STRUCTURE = (
    Structure("branches", "what only one branch needs moves into it; first, before loops merge", has_branches,
              settle_branches),
    Structure("loops", "loops merge, short ones are written out, work that needs no order moves outside; before the "
              "graph around them is rewritten", has_loops, settle),
    Structure("branches of loops", "branches that were in loops which are written out", has_branches,
              settle_branches),
)  # fmt: skip
FAST_MATH = Pass("fast_math", "rules that are not exact in IEEE arithmetic; with config.fast_math", _rules("fast_math"))
QUICK_PASSES = (GRAPH_PASSES[0], GRAPH_PASSES[2])  # mode fast_compile: one spelling, and stable values


@dataclass(slots=True)
class Stage:
    """The state after one pass: the graph, what fired, and how long it took."""

    name: str
    outputs: tuple[Tensor, ...]
    milliseconds: float
    log: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Compilation:
    """Everything one compilation made: a stage per pass, the plan, and the native program."""

    stages: list[Stage]
    plan: Plan
    native: Any
    milliseconds: dict[str, float]


def rewritten(outputs: Sequence[Tensor], passes: Sequence[Pass]) -> list[Stage]:
    """The graph after each pass, the unchanged one first."""
    from .rewrite import rewrite

    current = list(outputs)
    stages = [Stage("graph", tuple(current), 0.0)]
    for structure in STRUCTURE:
        if structure.present(current):
            start = perf_counter()
            done = structure.settled(current, lambda inner: list(rewritten(inner, passes)[-1].outputs))
            verify(current, done, structure.name)
            current = done
            stages.append(Stage(structure.name, tuple(current), (perf_counter() - start) * 1e3))
    for step in passes:
        start = perf_counter()
        changed = rewrite(current, step.rules())
        verify(current, changed.outputs, step.name)
        current = changed.outputs
        stages.append(Stage(step.name, tuple(current), (perf_counter() - start) * 1e3, changed.log))
    return stages


def verify(before: Sequence[Tensor], after: Sequence[Tensor], name: str) -> None:
    """Check that a pass kept what the outside relies on: element types and ranks."""
    for old, new in zip(before, after, strict=True):
        if old.element is not new.element or old.ndim != new.ndim:
            raise InternalError(f"pass {name} turned {old.type} into {new.type}")


def compile_graph(
    name: str,
    inputs: Sequence[Tensor],
    cells: Sequence[Tensor],
    results: Sequence[Result],
    passes: Sequence[Pass],
    profile: bool = False,
    hints: Mapping[Scalar, int] | None = None,
    device: str = CPU,
) -> Compilation:
    """Compile the results, expressions over ``inputs`` and the shared variables ``cells``, to code for a device.

    ``profile``: the program counts the time of every step, in one more cell after the constants (on the CPU).
    ``hints``: likely sizes of variables, for which loops are made faster.
    """
    start = perf_counter()
    with no_collection():
        stages = rewritten([r.node for r in results], passes)
        middle = perf_counter()
        final = [Result(n, r.cell) for n, r in zip(stages[-1].outputs, results, strict=True)]
        made = plan(name, inputs, cells, final, hints, device != CPU)
        if profile:
            made = replace(made, program=with_counters(made.program))
        lowered = perf_counter()
        native = native_program(made.program, device)
        end = perf_counter()
    times = {
        "rewrite": (middle - start) * 1e3,
        "lower": (lowered - middle) * 1e3,
        "native": (end - lowered) * 1e3,
        "total": (end - start) * 1e3,
    }
    return Compilation(stages, made, native, times)


def native_program(program: Program, device: str) -> Any:
    """The code of a program for a device, from the backend that is for it."""
    if device == CPU:
        from symtensor_codegen.llvm.backend import compile_program

        return compile_program(program)
    from symtensor_codegen.cuda import backend

    if only_compiles(device):
        return backend.compile_only(program, architecture_of(device))
    return backend.compile_program(program, opened(device), config.matmul_precision)


def specialised(
    done: Compilation,
    name: str,
    inputs: Sequence[Tensor],
    cells: Sequence[Tensor],
    results: Sequence[Result],
    hints: Mapping[Scalar, int],
    device: str = CPU,
) -> Compilation | None:
    """A compilation with loops that are faster for the sizes in ``hints``; None where there are none."""
    start = perf_counter()
    loops = [n for n in ancestors(done.stages[-1].outputs) if n.op is LOOP]
    if not any(is_worth_it(loop, hints, device=device != CPU) for loop in loops):
        return None
    final = [Result(n, r.cell) for n, r in zip(done.stages[-1].outputs, results, strict=True)]
    with no_collection():
        made = plan(name, inputs, cells, final, hints, device != CPU)
        if not made.fast:
            return None
        native = native_program(made.program, device)
    spent = (perf_counter() - start) * 1e3
    times = {**done.milliseconds, "first call": spent, "total": done.milliseconds["total"] + spent}
    return Compilation(done.stages, made, native, times)
