"""Sums of sums as single ones: ``total += sum of row`` becomes ``total += element``.

Kernels sum rows in registers of their own, which are added to the totals. Threads can share rows and elements at once
where there are only the totals. Reductions may be reassociated, so the result is as good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from symtensor_codegen.cuda.schedules.dependence import nodes_of
from symtensor_codegen.loops import Declare, For, Statement, Update
from symtensor_codegen.scalar import COMBINES, Register, const, const_op, register_op


def merged(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """Statements with sums of sums merged, in loops of any depth."""
    result: list[Statement] = []
    for statement in body:
        if isinstance(statement, For):
            inner = merged(statement.body)
            statement = replace(statement, body=_one_sum(inner) or inner)
        result.append(statement)
    return tuple(result)


def _one_sum(body: tuple[Statement, ...]) -> tuple[Statement, ...] | None:
    """A loop that combines into the totals; None where the body of the outer one is something else."""
    count = len(body) // 2
    if len(body) != 2 * count + 1 or not isinstance(body[count], For):
        return None
    totals: dict[Register, Update] = {}
    for statement in body[count + 1 :]:
        if not isinstance(statement, Update) or statement.value.op is not register_op:
            return None
        totals[statement.value.param] = statement
    if len(totals) < count or len({update.register for update in totals.values()}) < count:
        return None
    for statement in body[:count]:
        if not isinstance(statement, Declare) or statement.register not in totals:
            return None
        part, total = statement.register, totals[statement.register]
        neutral = const(COMBINES[total.combine].neutral(part.dtype), part.dtype)
        if statement.value is not neutral or neutral.op is not const_op or total.register.dtype is not part.dtype:
            return None
    found = _into(body[count], totals)
    return None if found is None else (found,)


def _into(loop: Statement, totals: Mapping[Register, Update]) -> For | None:
    """The loop with the totals in the place of their parts; None where it does anything else."""
    assert isinstance(loop, For)
    if len(loop.body) == 1 and isinstance(loop.body[0], For):
        inner = _into(loop.body[0], totals)
        return None if inner is None else replace(loop, body=(inner,))
    updates: list[Statement] = []
    for statement in loop.body:
        total = totals.get(statement.register) if isinstance(statement, Update) else None
        if total is None or not isinstance(statement, Update) or statement.combine != total.combine:
            return None
        if any(node.op is register_op and node.param in totals for node in nodes_of([statement])):
            return None
        updates.append(Update(total.register, total.combine, statement.value))
    return replace(loop, body=tuple(updates))
