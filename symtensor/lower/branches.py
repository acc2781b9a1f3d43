"""Lazy branches: two bodies planned like programs of their own, of which one runs; memory is taken inside."""

from typing import TYPE_CHECKING

from symtensor_codegen.finish import storage
from symtensor_codegen.program import Branch, Row, Step

from ..ops.branch_records import BRANCH
from ..ops.loop_body import Body, parts
from .loops import constant_rows, sizes_inside
from .units import Unit

if TYPE_CHECKING:
    from .plan import Planner, Work


def lower_branch(unit: Unit, outer: "Planner") -> "Work":
    """The work of a branch."""
    from .plan import Work

    node = unit.node
    assert node.op is BRANCH
    then, otherwise = (_steps(unit, body, outer) for body in node.params["bodies"])
    units = outer.units
    step = Branch(units.buffer(node.inputs[0]), tuple(then), tuple(otherwise))
    reads = {storage(units.buffer(i)) for i in node.inputs}
    work = Work(step, reads, [unit], [units.buffer(n) for n in unit.results], (), True, tuple(unit.waits))
    work.results = tuple(unit.results)
    return work


def _steps(unit: Unit, body: Body, outer: "Planner") -> list[Step]:
    """The steps of one body."""
    from .plan import Planner, Result

    given = parts(unit.node.inputs, body)
    results = {item.params["position"]: item for item in unit.results}
    kept = sorted(results)
    inner = Planner(
        body.name or "branch", body.constants, (), [Result(body.nexts[k]) for k in kept],
        sizes_inside(body, given, outer.sizes), body.index, device=outer.device,
    )  # fmt: skip
    owners, outputs, first, last = inner.prepare()
    outer.units.inner.append(inner.units)
    steps: list[Step] = list(constant_rows(body, given, inner, outer))
    late = {
        storage(output.buffer): Row(storage(output.buffer), outer.units.buffer(results[k]), 0)
        for k, output in zip(kept, outputs, strict=True)
    }
    steps += inner.steps_inside(set(), first, last, inner.temporaries(owners), late)
    outer.messages.extend(inner.messages)
    return steps
