"""Items with several loops that only combine, one after the other: cut apart, so that blocks may share each loop.

What later loops need of earlier ones is left in scratch memory, a word for each register and item, and launches follow
each other. A loop of an item could not be shared otherwise: all its blocks would have to wait for each other.
"""

from collections.abc import Sequence

from symtensor_codegen.cuda.schedules.dependence import independent, nodes_in, nodes_of, touched
from symtensor_codegen.cuda.schedules.sharing import SCRATCH, as_bits, from_bits, item_number
from symtensor_codegen.loops import Assign, Check, Declare, For, Leave, Statement, Store, Update, statements
from symtensor_codegen.scalar import Register, Scalar, as_int, checked_op, load, load_op, read, register_op
from symtensor_codegen.substitution import product

Phase = tuple[Statement, ...]


def phases(chain: Sequence[For], body: Sequence[Statement]) -> tuple[list[Phase], int]:
    """The bodies of launches that follow each other, and how many words an item leaves; one body where none is cut."""
    if not chain or not _may_be_cut(chain, body):
        return [tuple(body)], 0
    found: list[Phase] = []
    words: dict[Register, int] = {}  # where the registers of earlier phases are
    count = 0
    declared: dict[Register, Declare] = {}
    pending = list(body)
    begin: list[Statement] = []
    while pending:
        at = next(k for k, s in enumerate(pending) if isinstance(s, For))
        stores = [s for s in pending[:at] if isinstance(s, Store)]  # after the loop, which not only one block runs
        own = [*[s for s in pending[:at] if not isinstance(s, Store)], pending[at], *stores]
        pending = pending[at + 1 :]
        if not any(isinstance(s, For) for s in pending):
            own, pending = [*own, *pending], []
        declared |= {s.register: s for s in own if isinstance(s, Declare)}
        changed, later = _changed(own), touched(pending)
        needed = [r for r in declared if r in later.seen or r in later.registers]
        end: list[Statement] = []
        following: list[Statement] = []
        for register in needed:
            first = declared[register].value
            if register not in changed and register not in words and _is_known(first):
                following.append(declared[register])
                continue
            if register in changed or register not in words:
                words[register], count = count, count + 1
                place = _place(chain, words[register])
                end.append(Store(SCRATCH, (place,), as_bits(read(register))))
            word = load(SCRATCH, (_place(chain, words[register]),))
            following.append(Declare(register, from_bits(word, register.dtype)))
        found.append((*begin, *own, *end))
        begin = following
    return found, count


def _may_be_cut(chain: Sequence[For], body: Sequence[Statement]) -> bool:
    """Whether there are several loops that only combine, and nothing else that a cut could disturb."""
    loops = [s for s in body if isinstance(s, For)]
    if len(loops) < 2 or any(isinstance(s, (Check, Leave, Assign)) for s in statements(tuple(body))):
        return False
    if any(n.op is checked_op for n in nodes_of(body)):
        return False
    facts = touched(body)
    if facts.reads & facts.writes:
        return False
    for loop in loops:
        extents = [as_int(s.extent) for s in (loop, *statements(loop.body)) if isinstance(s, For)]
        if any(not extent.free.isdisjoint([c.index for c in chain]) for extent in extents) or not independent(loop):
            return False
        if any(n.op in (register_op, load_op) for e in extents for n in nodes_in(e)):
            return False
        if any(isinstance(s, Store) for s in statements(loop.body)):
            return False
        combined = set(touched(loop.body).registers)
        early = [s for s in body[: body.index(loop)] if isinstance(s, Store)]
        if any(combined & touched([store]).seen for store in early):
            return False
    return True


def _changed(body: Sequence[Statement]) -> set[Register]:
    """The registers that get another value than that which they are declared with."""
    return {r for s in body if isinstance(s, (For, Update)) for r in touched([s]).registers}


def _is_known(value: Scalar) -> bool:
    """Whether a value may as well be computed again."""
    return not any(node.op in (register_op, load_op) for node in nodes_in(value))


def _place(chain: Sequence[For], word: int) -> Scalar:
    return as_int(word) * as_int(product([loop.extent for loop in chain])) + item_number(chain)
