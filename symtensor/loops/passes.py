"""What the compiler does to loops before it lowers them.

The bodies are rewritten like every graph; states and values that nobody uses are dropped; and each loop is told what
it has to store.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace as replace_fields

from symtensor.graph import Constant, Tensor, ancestors, inherit, no_recording, rebuild, replace, variable
from symtensor.opdef import CONSTANT, OPS, dim_of
from symtensor.ops.indexing_records import SUBTENSOR
from symtensor.ops.loop_body import Body, make_body, outer_size
from symtensor.ops.loop_records import (
    FINAL,
    HISTORY,
    LOOP,
    TRACE,
    body_of,
    final,
    history,
    steps_run,
    trace,
)
from symtensor.ops.shaping_broadcast import specify_shape
from symtensor.rewrite.sizes import sizes_as_tensors
from symtensor_codegen import dtypes
from symtensor_codegen.errors import InternalError, ShapeError
from symtensor_codegen.scalar import Dim

from .delays import last_few
from .merging import merge_loops, unroll_short
from .outside import Sum, ahead, behind, is_small, over_steps, sums, turned

Rewriting = Callable[[Sequence[Tensor]], list[Tensor]]


def has_loops(outputs: Sequence[Tensor]) -> bool:
    """Whether the outputs are computed with loops."""
    return any(node.op is LOOP for node in ancestors(outputs))


def settle(outputs: Sequence[Tensor], rewriting: Rewriting) -> list[Tensor]:
    """The outputs with every loop in its final form; ``rewriting`` is applied to the bodies."""
    outputs = merge_loops(unroll_short(last_few(only_last(outputs))))
    order = ancestors(outputs)
    taken: dict[Tensor, list[Tensor]] = {}
    for node in order:
        if node.inputs and node.inputs[0].op is LOOP:
            taken.setdefault(node.inputs[0], []).append(node)
    memo: dict[Tensor, Tensor] = {}
    with no_recording():
        for node in order:
            if node.op is LOOP:
                memo.update(_settled(node, taken.get(node, []), [memo[i] for i in node.inputs], rewriting))
            elif node not in memo:
                inputs = tuple([memo[i] for i in node.inputs])
                memo[node] = node if inputs == node.inputs else rebuild(node, inputs)
    return [memo[output] for output in outputs]


def only_last(outputs: Sequence[Tensor], keep: Sequence[Tensor] = ()) -> list[Tensor]:
    """The outputs with the last row of a state's values replaced by the last state: then no other row is stored.

    (For a loop without steps this is the initial state, where the row would be an error.) Rows in ``keep`` stay.
    """
    found: dict[Tensor, Tensor] = {}
    with no_recording():
        for node in ancestors(outputs, stop=keep):
            if node not in keep and node.op is SUBTENSOR and node.inputs[0].op is TRACE and _is_last(node):
                rows = node.inputs[0]
                loop, inner = rows.inputs[0], rows.params["node"]
                body = body_of(loop)
                if inner in body.nexts and not body.backwards:
                    found[node] = final(loop, body.nexts.index(inner))
    return replace(outputs, found) if found else list(outputs)


def _is_last(node: Tensor) -> bool:
    items = node.params["items"]
    if items[0][0] != "index" or any(item != ("slice", None, None, 1) for item in items[1:]):
        return False
    place = items[0][1]
    if isinstance(place, tuple):
        given = node.inputs[1 + place[1]]
        if not isinstance(given, Constant):
            return False
        place = int(given.data)
    rows = node.inputs[0].type.shape[0]
    return place == -1 or (rows is not None and place == rows - 1)


def _settled(
    loop: Tensor, items: Sequence[Tensor], inputs: Sequence[Tensor], rewriting: Rewriting
) -> dict[Tensor, Tensor]:
    """The loop and what is taken out of it, in their final form."""
    made = _Settling(loop, items, inputs)
    made.rewrite(rewriting)
    if not made.body.recompute and not is_small(made.body, made.body.outputs):
        made.move_out()
    return made.results()


class _Settling:
    """A loop on its way to its final form: its body, and what each result becomes."""

    def __init__(self, loop: Tensor, items: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        self.loop, self.items = loop, items
        self.body = body = body_of(loop)
        self.count, *others = inputs
        self.outer = dict(zip((*body.carries, *body.sequences, *body.constants), others, strict=True))
        self.wanted = list(dict.fromkeys(i.params["node"] for i in items if i.op is TRACE))
        self.shown = list(self.wanted)  # what each of them is inside the body as it is now
        self.carry_of = {k: k for k in range(len(body.carries))}  # positions of states, before and now
        self.sums: dict[int, Sum] = {}
        self.behind: dict[Tensor, list[Tensor]] = {}
        self.stored: list[Tensor] = []

    def _change(self, outputs: Sequence[Tensor], carries: Sequence[int], extra: Sequence[Tensor] = ()) -> None:
        """Go on with a body of these outputs (next states, condition, values shown) and these states."""
        body = self.body
        stop = body.until is not None
        nexts, rest = outputs[: len(carries)], outputs[len(carries) :]
        self.shown = list(rest[1:] if stop else rest)
        used = set(ancestors([*outputs, *extra]))
        before = {new: old for old, new in self.carry_of.items()}
        self.carry_of = {before[k]: position for position, k in enumerate(carries)}
        sequences = [v for v in self.outer if v in used and v not in body.carries and v not in body.constants]
        self.body = make_body(
            body.index, tuple(body.carries[k] for k in carries), tuple(sequences),
            tuple(v for v in body.constants if v in used), tuple(nexts), rest[0] if stop else None,
            body.backwards, body.truncate, body.name, recompute=body.recompute,
        )  # fmt: skip

    def _outputs(self, carries: Sequence[int], shown: Sequence[Tensor]) -> list[Tensor]:
        until = [self.body.until] if self.body.until is not None else []
        return [*[self.body.nexts[k] for k in carries], *until, *shown]

    def rewrite(self, rewriting: Rewriting) -> None:
        """Drop states that nobody needs, and rewrite the body."""
        until = [self.body.until] if self.body.until is not None else []
        finals = {i.params["carry"] for i in self.items if i.op in (FINAL, HISTORY)}
        live = _live(self.body, [*self.shown, *until], finals)
        outputs = rewriting(self._outputs(live, self.shown))
        first = len(outputs) - len(self.shown)
        outside = outer_size(self.body, [self.count, *self.outer.values()])
        for position, old in enumerate(self.shown, first):
            outputs[position] = _stated(outputs[position], old, outside)
        self._change(outputs, live)

    def move_out(self) -> None:
        """Compute outside what need not be computed step by step."""
        everything = range(len(self.body.carries))
        self._turn(everything)
        self._change(ahead(self.body, self._outputs(everything, self.shown), self.outer, self._rows), everything)
        if self.body.until is None:
            kept = {i.params["carry"] for i in self.items if i.op is HISTORY}
            only_final = [self.carry_of[k] for k in self.carry_of if k not in kept]
            found = sums(self.body, only_final, self._outputs(everything, self.shown), self.shown)
            found = {k: made for k, made in found.items() if self._keep_sizes(made.needs)}
            self.sums = {old: found[new] for old, new in self.carry_of.items() if new in found}
            needs = [n for s in self.sums.values() for n in s.needs]
            self.stored += needs
            rest = [k for k in everything if k not in found]
            self._change(self._outputs(rest, self.shown), rest, self.stored)
        until = [self.body.until] if self.body.until is not None else []
        recurrent = set(ancestors([*self.body.nexts, *until]))
        shown = [*self.shown, *self.stored]
        self.behind = behind(self.body, list(dict.fromkeys(shown)), recurrent)
        for node, edge in list(self.behind.items()):
            if not self._keep_sizes(edge) or over_steps(node, self.body, self.outer, self._any_rows, edge) is None:
                del self.behind[node]
        self.stored += [n for edge in self.behind.values() for n in edge]

    def _turn(self, everything: Sequence[int]) -> None:
        """Transpose matrices with short rows outside."""
        outputs, matrices = turned(self.body, self._outputs(everything, self.shown))
        if matrices:
            for matrix, made in matrices.items():
                self.outer[made] = OPS["dimshuffle"].make(self.outer[matrix], order=(1, 0))
            self.body = replace_fields(self.body, constants=(*self.body.constants, *matrices.values()))
            self._change(outputs, everything)

    def _keep_sizes(self, nodes: Sequence[Tensor]) -> bool:
        """Whether values inside are arrays, of sizes known outside, so that they can be kept over all steps."""
        body = self.body
        if any(node.element is dtypes.results for node in nodes):  # a loop inside, of which only parts can be kept
            return False
        outside = outer_size(
            body, [self.count, *[self.outer[v] for v in (*body.carries, *body.sequences, *body.constants)]]
        )
        try:
            for node in nodes:
                for size in node.dims:
                    outside(size)
        except ShapeError:
            return False
        return True

    def _rows(self, node: Tensor) -> Tensor:
        """A sequence or the index over all steps."""
        if node is self.body.index:
            return self._numbers()
        rows = self.outer[node]
        same = rows.dims[0] is dim_of(self.count) or rows.dims[0] == dim_of(self.count)
        return rows if same else rows[: self.count]

    def _any_rows(self, node: Tensor) -> Tensor:
        """Something of the type of a value over all steps, to see whether it can be computed with."""
        from symtensor.types import TensorType

        return variable(TensorType(node.element, (None, *node.type.shape)))

    def _numbers(self) -> Tensor:
        from symtensor.ops.creation import arange

        steps = arange(self.count)
        return steps[::-1] if self.body.backwards else steps

    def results(self) -> dict[Tensor, Tensor]:
        """The loop, and what became of its results."""
        body = self.body
        needed = [*[v for v in self.shown if v not in self.behind], *self.stored]
        plain = frozenset((*body.variables, *body.nexts))
        stored = [
            v for v in dict.fromkeys(needed) if v not in plain and v not in self.behind and v.op is not CONSTANT
        ]
        used = set(ancestors([*body.nexts, *([body.until] if body.until is not None else []), *stored]))
        final_body = make_body(
            body.index, body.carries, tuple(v for v in body.sequences if v in used),
            tuple(v for v in body.constants if v in used), body.nexts, body.until, body.backwards, body.truncate,
            body.name, tuple(stored), body.recompute,
        )  # fmt: skip
        self.new = LOOP.make(
            self.count,
            *[self.outer[v] for v in (*final_body.carries, *final_body.sequences, *final_body.constants)],
            body=final_body,
        )
        inherit(self.new, self.loop)
        found = {self.loop: self.new}
        for item in self.items:
            found[item] = made = self._result(item)
            inherit(made, item)
        return found

    def _result(self, item: Tensor) -> Tensor:
        if item.op is TRACE:
            return self._all_steps(self.shown[self.wanted.index(item.params["node"])])
        if item.op is FINAL and item.params["carry"] in self.sums:
            k = item.params["carry"]
            initial = self.outer[body_of(self.loop).carries[k]]
            return OPS["add"](initial, self.sums[k].total(self._all_steps))
        if item.op is FINAL or item.op is HISTORY:
            return item.op.make(self.new, carry=self.carry_of[item.params["carry"]])
        return steps_run(self.new)

    def _all_steps(self, inner: Tensor) -> Tensor:
        """A value inside the loop over all steps."""
        from symtensor.ops.shaping_axes import sizes
        from symtensor.ops.shaping_broadcast import broadcast_sizes

        body = self.body
        if inner in body.carries or inner in body.nexts:
            late = inner not in body.carries
            carry = body.nexts.index(inner) if late else body.carries.index(inner)
            rows = history(self.new, carry)
            return rows[1:] if late != body.backwards else rows[:-1]
        if (inner in self.outer and inner not in body.constants) or inner is body.index:
            return self._rows(inner)
        if inner in self.behind:
            made = over_steps(inner, body, self.outer, self._all_steps, self.behind[inner])
            if made is None:
                raise InternalError(f"{inner.op} cannot be computed behind its loop")
            return made
        if inner.op is CONSTANT or inner in body.constants or inner in self.outer:
            return broadcast_sizes(self.outer.get(inner, inner), [self.count, *sizes(self.outer.get(inner, inner))])
        return trace(self.new, inner)


def _stated(new: Tensor, old: Tensor, outside: Callable[[Dim], Dim]) -> Tensor:
    """``new``, stated to have the sizes of ``old`` where its own are not known outside of the loop."""
    try:
        for size in new.dims:
            outside(size)
    except ShapeError:
        return specify_shape(new, sizes_as_tensors(old.dims))
    return new


def _live(body: Body, wanted: Sequence[Tensor], finals: set[int]) -> list[int]:
    """The states that something wanted depends on."""
    live = set(finals)
    while True:
        reached = set(ancestors([*wanted, *[body.nexts[k] for k in live]]))
        more = {k for k, v in enumerate(body.carries) if v in reached} - live
        if not more:
            return sorted(live)
        live |= more


__all__ = ["has_loops", "only_last", "settle"]
