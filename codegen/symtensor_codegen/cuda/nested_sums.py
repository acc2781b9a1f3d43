"""A sum of sums as one sum: ``total += sum of row`` becomes ``total += element``.

Kernels sum rows in a register of their own, which is added to the total. Threads can share rows and elements at once
where there is only the total. Reductions may be reassociated, so the result is as good.
"""

from collections.abc import Sequence
from dataclasses import replace

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
    """A loop that combines into the total; None where the body of the outer one is something else."""
    match body:
        case (Declare(register=part, value=first), For() as loop, Update(register=total, combine=combine, value=value)):
            neutral = const(COMBINES[combine].neutral(part.dtype), part.dtype)
            if first.op is not const_op or first is not neutral or total.dtype is not part.dtype:
                return None
            if value.op is not register_op or value.param is not part:
                return None
            found = _into(loop, part, total, combine)
            return None if found is None else (found,)
    return None


def _into(loop: For, part: Register, total: Register, combine: str) -> For | None:
    """The loop with the total in the place of the part; None where it does anything else."""
    if len(loop.body) != 1:
        return None
    (only,) = loop.body
    if isinstance(only, For):
        inner = _into(only, part, total, combine)
        return None if inner is None else replace(loop, body=(inner,))
    if isinstance(only, Update) and only.register is part and only.combine == combine:
        return replace(loop, body=(Update(total, combine, only.value),))
    return None
