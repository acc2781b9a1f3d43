"""Items with several loops, one after the other: cut apart, so that blocks may share each loop.

What later loops need of earlier ones is left in scratch memory, a word for each register and item, and launches follow
each other. A loop of an item could not be shared otherwise: all its blocks would have to wait for each other.
"""

from collections.abc import Sequence
from dataclasses import replace

from symtensor_codegen.cuda.schedules.dependence import independent, nodes_in, stores_of, touched
from symtensor_codegen.cuda.schedules.sharing import SCRATCH, as_bits, from_bits, item_number
from symtensor_codegen.loops import Assign, Check, Declare, For, Leave, Statement, Store, Update, statements
from symtensor_codegen.scalar import Register, Scalar, as_int, load, load_op, read, register_op
from symtensor_codegen.substitution import product

Phase = tuple[Statement, ...]


def phases(chain: Sequence[For], body: Sequence[Statement]) -> tuple[list[Phase], int]:
    """The bodies of launches that follow each other, and how many words an item leaves; one body where none is cut.

    A loop that stores is all of its body, so that its iterations may be items themselves.
    """
    whole = tuple(body)
    body = [part for statement in body for part in _distributed(statement)]
    if not chain or not _may_be_cut(chain, body):
        return [whole], 0
    found: list[Phase] = []
    words: dict[Register, int] = {}  # where the registers of earlier phases are
    count = 0
    declared: dict[Register, Declare] = {}
    begin: list[Statement] = []
    groups = _groups(body)
    for position, own in enumerate(groups):
        declared |= {s.register: s for s in own if isinstance(s, Declare)}
        changed, later = _changed(own), touched([s for group in groups[position + 1 :] for s in group])
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
        found.append((_inside(own[0], begin),) if is_storing(own[0]) else (*begin, *own, *end))
        begin = following
    return found, count


def is_storing(statement: Statement) -> bool:
    """Whether it is a loop that stores."""
    return isinstance(statement, For) and bool(stores_of(statement.body))


def _distributed(statement: Statement) -> tuple[Statement, ...]:
    """A loop that combines and stores, as one that combines and one that stores."""
    if not isinstance(statement, For) or any(isinstance(s, (Declare, For)) for s in statement.body):
        return (statement,)
    stores = tuple(s for s in statement.body if isinstance(s, Store))
    others, facts = tuple(s for s in statement.body if not isinstance(s, Store)), touched(statement.body)
    if not stores or not others or facts.reads & facts.writes or facts.seen & facts.registers.keys():
        return (statement,)
    return replace(statement, body=others), replace(statement, body=stores)


def _groups(body: Sequence[Statement]) -> list[list[Statement]]:
    """What each launch runs: a loop that stores, or one that combines and what stands around it.

    Where a loop combines, what stands before it is run by all its blocks, so its stores come after the loop.
    """
    groups: list[list[Statement]] = []
    pending: list[Statement] = []
    for statement in body:
        if not isinstance(statement, For):
            pending.append(statement)
        elif is_storing(statement):
            _close(groups, pending)
            groups.append([statement])
            pending = []
        else:
            stores = [s for s in pending if isinstance(s, Store)]
            groups.append([*[s for s in pending if not isinstance(s, Store)], statement, *stores])
            pending = []
    _close(groups, pending)
    return groups


def _close(groups: list[list[Statement]], rest: Sequence[Statement]) -> None:
    """Put what has no loop of its own to the last loop that combines, or into a launch of its own."""
    if groups and not is_storing(groups[-1][0]):
        groups[-1] += rest
    elif rest:
        groups.append([*rest])


def _inside(loop: Statement, begin: Sequence[Statement]) -> For:
    """A loop that stores, with what it has to begin with inside, as far in as there is nothing but loops."""
    assert isinstance(loop, For)
    inner = loop.body[0]
    body = (_inside(inner, begin),) if len(loop.body) == 1 and isinstance(inner, For) else (*begin, *loop.body)
    return replace(loop, body=body)


def _may_be_cut(chain: Sequence[For], body: Sequence[Statement]) -> bool:
    """Whether there are several loops that either combine or store, and nothing else that a cut could disturb."""
    loops = [s for s in body if isinstance(s, For)]
    if len(loops) < 2 or any(isinstance(s, (Check, Leave, Assign)) for s in statements(tuple(body))):
        return False
    outside, inside = touched([s for s in body if not isinstance(s, For)]), touched(loops)
    if outside.writes & (outside.reads | inside.reads | inside.writes) or outside.reads & inside.writes:
        return False
    for loop in loops:
        extents = [as_int(s.extent) for s in (loop, *statements(loop.body)) if isinstance(s, For)]
        if any(not extent.free.isdisjoint([c.index for c in chain]) for extent in extents) or not independent(loop):
            return False
        if any(n.op in (register_op, load_op) for e in extents for n in nodes_in(e)):
            return False
        combined = set(touched(loop.body).registers)
        if combined and is_storing(loop):
            return False
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
