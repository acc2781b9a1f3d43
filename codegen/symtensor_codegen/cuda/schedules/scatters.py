"""Stores to places that are only known when they are reached: ``inc_subtensor``, gradients of embeddings, ``bincount``.

    for k < n:
        for j < m:
            out[index[k] * m + j] add= x[k * m + j]

Iterations of such a nest are pairs of an *item*, here a ``j``, and a *step* ``k``. Two steps that meet in an element
meet for every item, so a number that tells their places apart, here ``index[k]``, decides what must stay in order:
steps of equal *targets*. Targets are dealt out to *parts*, and a part runs its steps one after the other, each for many
items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from symtensor_codegen.cuda.schedules.dependence import nodes_in, nodes_of, touched
from symtensor_codegen.cuda.schedules.launch_numbers import LARGEST_GRID, Shape, power_of_two
from symtensor_codegen.loops import Check, For, LoopKind, Statement, Store
from symtensor_codegen.scalar import Dim, Scalar, add, as_int, const_op, load_op, mul, register_op, sub
from symtensor_codegen.substitution import product, stride, substitute

LANES = 32  # threads of a warp, which has neighbouring items of one part
SCATTER_THREADS = 512  # of a block
BLOCKS = 2  # of a multiprocessor
ROUNDS = 8  # targets that a thread looks at before the block waits
MOST_WARPS = SCATTER_THREADS // LANES
MARKS = (MOST_WARPS + 1) * (ROUNDS * MOST_WARPS + 1)  # words: a bit for each part and step, and for a frequent target
OFTEN = 64  # steps of a target that a block looks at together from which on it may be frequent


@dataclass(frozen=True, eq=False)
class Scatter:
    """A nest of loops over items and over steps, and the targets of steps.

    The place of a store is the sum of ``base``, which depends on the step, and ``offset``, which depends on the item.
    The stores of an item go to one element, or to the parts of one that is a complex number: ``distances`` tells how
    far they are from the first. ``frequent``: blocks look out for targets that very many steps have.
    """

    items: tuple[For, ...]
    loops: tuple[For, ...]
    body: tuple[Statement, ...]
    target: Scalar
    base: Scalar
    offset: Scalar
    stores: tuple[Store, ...]
    distances: tuple[int, ...]
    frequent: bool = False

    @property
    def is_chain(self) -> bool:
        """Whether steps combine with what is there: those of one target are a chain."""
        return self.stores[0].combine is not None

    @property
    def steps(self) -> Dim:
        """How many steps there are."""
        return product([loop.extent for loop in self.loops])


def scatter_of(part: tuple[Statement, ...]) -> Scatter | None:
    """How loops are a scatter; None where they are none.

    As everywhere, a loop whose place grows by the same from each iteration to the next has elements of its own: its
    iterations do not meet, in whichever steps.
    """
    nest: list[For] = []
    body = part
    while len(body) == 1 and isinstance(body[0], For):
        nest.append(body[0])
        body = body[0].body
    stores = [s for s in body if isinstance(s, Store)]
    if not nest or not stores or not all(isinstance(s, (Check, Store)) for s in body):
        return None
    places = _places(stores)
    facts = touched(body)
    reads = {n.param for n in nodes_of(body) if n.op is load_op}
    if places is None or facts.writes & reads or any(n.op is register_op for n in nodes_of(body)):
        return None
    if any(isinstance(loop.extent, Scalar) and loop.extent.free for loop in nest):
        return None
    place, distances = places
    items = [loop for loop in nest if _is_even(stride(place, loop.index))]
    loops = [loop for loop in nest if loop not in items]
    none = {loop.index: as_int(0) for loop in items}
    target = _target(substitute(place, none), frozenset(loop.index for loop in loops))
    if not any(loop.index in target.free and loop.kind is LoopKind.SERIAL for loop in loops):
        return None
    at, offset = stores[0].index[0], as_int(0)
    for loop in items:
        step = stride(at, loop.index)
        assert step is not None
        offset = offset + as_int(step) * loop.index
    base = substitute(at, none)
    return Scatter(tuple(items), tuple(loops), body, target, base, offset, tuple(stores), distances)


def _places(stores: Sequence[Store]) -> tuple[Scalar, tuple[int, ...]] | None:
    """A number for the element that stores go to, and the stores' distances; None where there are several elements."""
    if len(stores) == 1:
        return stores[0].index[0], (0,)
    if len({(s.buffer, s.combine, s.where) for s in stores}) > 1:
        return None
    parts = [_part_of(s.index[0]) for s in stores]
    if len({(whole, width) for whole, width, _ in parts}) > 1 or len({at for _, _, at in parts}) < len(parts):
        return None
    whole, width, first = parts[0]
    if not all(0 <= at < width for _, _, at in parts):
        return None
    return whole, tuple(at - first for _, _, at in parts)


def _part_of(place: Scalar) -> tuple[Scalar, int, int]:
    """``place`` as a part of an element of several: the element, how many parts it has, and which of them it is."""
    at = 0
    if place.op is add and place.args[1].op is const_op:
        place, at = place.args[0], place.args[1].param
    if place.op is mul and place.args[1].op is const_op:
        return place.args[0], place.args[1].param, at
    return place, 1, at


def _is_even(step: Dim | None) -> bool:
    """Whether a place moves on by the same, and by something, from each iteration of a loop to the next."""
    if not isinstance(step, Scalar):
        return step is not None and step != 0
    return not step.free and not any(n.op is load_op for n in nodes_in(step))


def _target(place: Scalar, steps: frozenset[Scalar]) -> Scalar:
    """What of a place differs from step to step: numbers that count are dealt out evenly, multiples may not be."""
    while place.op in (add, sub, mul):
        varying = [a for a in place.args if a.free & steps]
        if len(varying) != 1:
            break
        place = varying[0]
    return place


def scatter_shape(items: int, steps: int, multiprocessors: int) -> Shape:
    """Warps of 32 neighbouring items; those of other parts above them in the block, and in blocks along y.

    All blocks look at all targets, so they are large, and few where there is little else to do for a step.
    """
    tiles = -(-items // LANES)
    blocks = multiprocessors * min(tiles, BLOCKS)
    parts = max(min(blocks * MOST_WARPS // tiles, steps), 1)
    down = min(power_of_two(parts + 1) // 2, MOST_WARPS)
    across = LANES * min(MOST_WARPS // down, power_of_two(tiles))
    return (min(-(-items // across), LARGEST_GRID), parts // down, 1), (across, down, 1)


__all__ = [
    "BLOCKS", "LANES", "MARKS", "MOST_WARPS", "OFTEN", "ROUNDS", "SCATTER_THREADS", "Scatter", "scatter_of",
    "scatter_shape",
]  # fmt: skip
