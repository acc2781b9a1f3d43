"""Random words that the iterations of a loop take in their order: a thread that has several computes a block once.

A word by itself costs a whole block of Philox, four words of 64 bits, or eight halves of them.
"""

from collections.abc import Sequence

from symtensor_codegen.cuda.schedules.dependence import registers_in, touched
from symtensor_codegen.expr import topological
from symtensor_codegen.loops import Declare, Statement, values_of
from symtensor_codegen.scalar import Scalar, guarded_op, philox32, philox64, rarely_op
from symtensor_codegen.substitution import stride

BLOCK_BYTES = 32


def draws_of(index: Scalar, body: Sequence[Statement]) -> tuple[Scalar, ...]:
    """The words (or halves) of which each iteration takes the next one of a stream; not those that few need.

    ``body``: the statements of the loop over ``index``, none of them a loop.
    """
    roots = [value for statement in body for value in values_of(statement)]
    needed = topological(roots, lambda n: (n.args[0], n.args[2]) if n.op in (guarded_op, rarely_op) else n.args)
    changed = {*touched(body).registers, *[s.register for s in body if isinstance(s, Declare)]}
    return tuple(n for n in needed if is_draw(n) and _follow(n, index) and changed.isdisjoint(registers_in(n)))


def is_draw(node: Scalar) -> bool:
    """Whether a node is a random word, or half of one."""
    return node.op is philox64 or node.op is philox32


def _follow(draw: Scalar, index: Scalar) -> bool:
    *state, offset = draw.args
    return stride(offset, index) == 1 and not any(index in part.free for part in state)


def in_block(draws: Sequence[Scalar]) -> int:
    """How many elements a thread should have, to use all of the blocks that it computes."""
    return max([BLOCK_BYTES // draw.dtype.itemsize for draw in draws], default=1)
