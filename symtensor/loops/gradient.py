"""The gradient of a loop: another loop, which runs through the steps in reverse.

Its states are the gradients of the forward loop's states; its sequences are the gradients that arrive at each step,
and what the steps of the forward loop computed. Of the latter as little as is cheap to start from is stored: results
of products, reductions and transcendental functions, not of arithmetic, which is done again. A body that says
``recompute`` stores nothing of this: all of a step is done again, from its variables.
"""

from collections.abc import Mapping, Sequence

from symtensor.graph import Constant, Tensor, ancestors, constant, replace, variable
from symtensor.opdef import CONSTANT, OPS, where
from symtensor.ops.loop_body import (
    UNBOUNDED,
    capture,
    index_variable,
    keep_sizes,
    make_body,
    outer_size,
    substitution_symbols,
)
from symtensor.ops.loop_records import FINAL, LOOP, TRACE, body_of, final, parts_of, steps_run, trace
from symtensor.ops.shaping_broadcast import specify_shape
from symtensor.pullback import GradientError, has_gradient, pull_back
from symtensor.rewrite.sizes import size_tensor
from symtensor.types import TensorType
from symtensor_codegen import dtypes
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Dim, Scalar

RECOMPUTED = 4  # elementwise operations of at most this cost are done again rather than stored
MOVES = frozenset(("dimshuffle", "reshape", "broadcast_to", "cast", "subtensor"))


def pull_back_loop(arrived: Mapping[Tensor, Tensor], node: Tensor, needed: set[Tensor]) -> list[Tensor | None]:
    """Gradients for the inputs of the loop ``node``, given those of its results; None for inputs not ``needed``."""
    return _Reverse(arrived, node, needed).run()


class _Reverse:
    def __init__(self, arrived: Mapping[Tensor, Tensor], node: Tensor, needed: set[Tensor]) -> None:
        self.node, self.needed = node, needed
        self.body = body_of(node)
        self.given = parts_of(node)
        self.finals = {item.params["carry"]: g for item, g in arrived.items() if item.op is FINAL}
        self.traces = {item.params["node"]: g for item, g in arrived.items() if item.op is TRACE}
        self.count = steps_run(node) if self.body.until is not None else self.given.count
        self.cut = False
        if self.body.truncate >= 0:
            self.cut = True
            self.count = OPS["minimum"](self.count, constant(self.body.truncate, "int64"))

    def run(self) -> list[Tensor | None]:
        body, given = self.body, self.given
        weights = {v: variable(v.type, "d_trace") for v in self.traces}
        states = {
            k: variable(TensorType(v.element, v.type.shape), f"d_{v.name}" if v.name else None)
            for k, v in enumerate(body.carries)
            if has_gradient(v)
        }
        wanted = [v for v in body.variables if has_gradient(v)]
        active = {k for k in self.finals if k in states}
        while True:
            arrived = self._step(weights, {k: states[k] for k in active}, wanted)
            more = {k for k, v in enumerate(body.carries) if v in arrived and k in states} - active
            if not more:
                break
            active |= more
        carries = sorted(active)
        rows = [
            (k, v) for k, v in enumerate(body.sequences) if v in arrived and given.sequences[k] in self.needed
        ]
        sums = [
            (k, v) for k, v in enumerate(body.constants) if v in arrived and given.constants[k] in self.needed
        ]
        totals = [variable(v.type, f"d_{v.name}" if v.name else None) for _, v in sums]
        nexts = [arrived.get(body.carries[k]) for k in carries]
        outputs = [
            *[_like(body.carries[k]) if g is None else g for k, g in zip(carries, nexts, strict=True)],
            *[OPS["add"](total, arrived[v]) for total, (_, v) in zip(totals, sums, strict=True)],
            *keep_sizes([v for _, v in rows], [arrived[v] for _, v in rows], ()),
        ]
        loop, made = self._loop(outputs, weights, [states[k] for k in carries], totals, carries, sums, rows)
        return self._parts(loop, made, carries, sums, rows)

    def _step(
        self, weights: Mapping[Tensor, Tensor], states: Mapping[int, Tensor], wanted: Sequence[Tensor]
    ) -> dict[Tensor, Tensor]:
        """Gradients inside one step."""
        seeds: dict[Tensor, Tensor] = {}
        for node, g in (*weights.items(), *((self.body.nexts[k], g) for k, g in states.items())):
            seeds[node] = OPS["add"](seeds[node], g) if node in seeds else g
        return pull_back(seeds, wanted).arrived

    def _loop(
        self,
        outputs: list[Tensor],
        weights: Mapping[Tensor, Tensor],
        states: list[Tensor],
        totals: list[Tensor],
        carries: list[int],
        sums: list[tuple[int, Tensor]],
        rows: list[tuple[int, Tensor]],
    ) -> tuple[Tensor, list[Tensor]]:
        """The reverse loop, and the expressions inside it that ``outputs`` became."""
        body, given = self.body, self.given
        index = index_variable()
        try:
            inner, sequences, constants = self._from_saved(outputs, weights, index, self._recomputed(outputs))
        except ShapeError:  # a loop inside runs over something of which only the step knew the size: not from its value
            everything = frozenset(ancestors(outputs))
            inner, sequences, constants = self._from_saved(outputs, weights, index, everything)
        count = len(states) + len(totals)
        for position, (k, _) in enumerate(rows, count):
            inner[position] = self._sized(inner[position], given.sequences[k].dims[1:], [v for v, _ in constants])
        inner, captured, holes = capture(
            inner, [index, *states, *totals, *[v for v, _ in sequences], *[v for v, _ in constants]]
        )
        constants += list(zip(holes, captured, strict=True))
        nexts = keep_sizes([*states, *totals], inner[:count], [v for v, _ in constants])
        made = make_body(
            index,
            (*states, *totals),
            tuple(v for v, _ in sequences),
            tuple(v for v, _ in constants),
            tuple(nexts),
            None,
            not body.backwards,
            -1,
            f"gradient of {body.name}" if body.name else "gradient",
            recompute=body.recompute,
        )
        initial = [self.finals[k] if k in self.finals else _zeros_like(given.initial[k]) for k in carries]
        initial += [_zeros_like(given.constants[k]) for k, _ in sums]
        loop = LOOP.make(self.count, *initial, *[s for _, s in sequences], *[c for _, c in constants], body=made)
        return loop, inner

    def _from_saved(
        self, outputs: list[Tensor], weights: Mapping[Tensor, Tensor], index: Tensor, recomputed: frozenset[Tensor]
    ) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """The outputs over variables of the reverse loop, with its sequences and constants: variables and sources."""
        body, given = self.body, self.given
        forward = frozenset(body.variables)
        sizes = self._sizes(outputs)
        free = frozenset([*body.carries, *body.nexts, *sizes])
        saved = _saved(outputs, forward, free, recomputed)
        stand_in: dict[Tensor, Tensor] = {}
        sequences: list[tuple[Tensor, Tensor]] = [(weights[v], self._rows(g)) for v, g in self.traces.items()]
        constants: list[tuple[Tensor, Tensor]] = []
        for node in saved:
            if node in body.constants:
                stand_in[node] = kept = variable(node.type, node.name)
                constants.append((kept, given.constants[body.constants.index(node)]))
            elif node in sizes:
                kept = variable(node.type, "size")
                stand_in[node] = kept
                constants.append((kept, sizes[node]))
            elif node is body.index:
                last = variable(node.type, "last_step")
                constants.append((last, OPS["sub"](self._total(), constant(1, "int64"))))
                stand_in[node] = OPS["sub"](last, index)
            else:
                if node not in body.sequences and self._is_unbounded():
                    raise GradientError(
                        f"grad: the gradient of {body.name or 'a loop'} keeps what every step computed, so there must "
                        f"be a bound on their number: pass max_steps{where(node)}"
                    )
                source = (
                    given.sequences[body.sequences.index(node)] if node in body.sequences else trace(self.node, node)
                )
                stand_in[node] = row = variable(node.type, node.name)
                sequences.append((row, self._rows(source)))
        return replace(outputs, stand_in), sequences, constants

    def _sized(self, g: Tensor, sizes: Sequence[Dim], constants: Sequence[Tensor]) -> Tensor:
        """A gradient for a row, stated to have the sizes of the row where its own are computed in the step."""
        computed = [s.param for d in g.dims if isinstance(d, Scalar) for s in substitution_symbols(d)]
        if not any(token[0] == "value" and token[1] not in constants for token in computed):
            return g
        return specify_shape(g, [size if isinstance(size, int) else size_tensor(size) for size in sizes])

    def _recomputed(self, outputs: Sequence[Tensor]) -> frozenset[Tensor]:
        """What is not stored: everything if the body says so, else loops and values whose sizes the step computes."""
        order = ancestors(outputs)
        if self.body.recompute:
            return frozenset(order)
        outside = outer_size(self.body, self.node.inputs)
        found = {node for node in order if node.element is dtypes.results}  # only what is taken out of one is a value
        for node in order:
            try:
                for size in node.dims:
                    outside(size)
            except ShapeError:
                found.add(node)
        return frozenset(found)

    def _sizes(self, outputs: Sequence[Tensor]) -> dict[Tensor, Tensor]:
        """The sizes inside the forward loop that are known outside of it, outside of it."""
        outside = outer_size(self.body, self.node.inputs)
        found: dict[Tensor, Tensor] = {}
        for node in ancestors(outputs):
            if node.op.name == "dim":
                try:
                    size = outside(node.inputs[0].dims[node.params["axis"]])
                except ShapeError:  # computed in the step
                    continue
                found[node] = constant(size, "int64") if isinstance(size, int) else size_tensor(size)
        return found

    def _is_unbounded(self) -> bool:
        """Whether nothing but its condition ends the forward loop."""
        bounds = [n.data for n in ancestors([self.given.count]) if isinstance(n, Constant) and n.ndim == 0]
        return any(bound >= UNBOUNDED for bound in bounds)

    def _total(self) -> Tensor:
        return steps_run(self.node) if self.body.until is not None else self.given.count

    def _rows(self, sequence: Tensor) -> Tensor:
        """The rows of a sequence that the gradient goes through: all of them, or where truncated the last ones."""
        if not self.cut:
            return sequence
        if self.body.backwards:
            return sequence[: self.count]
        total = self._total()
        return sequence[OPS["sub"](total, self.count) : total]

    def _parts(
        self,
        loop: Tensor,
        inner: list[Tensor],
        carries: list[int],
        sums: list[tuple[int, Tensor]],
        rows: list[tuple[int, Tensor]],
    ) -> list[Tensor | None]:
        body, given = self.body, self.given
        initial: list[Tensor | None] = [None] * len(body.carries)
        for position, k in enumerate(carries):
            initial[k] = self._of_initial(final(loop, position))
        constants: list[Tensor | None] = [None] * len(body.constants)
        for position, (k, _) in enumerate(sums):
            constants[k] = final(loop, len(carries) + position)
        sequences: list[Tensor | None] = [None] * len(body.sequences)
        for node, (k, _) in zip(inner[len(carries) + len(sums) :], rows, strict=True):
            sequences[k] = self._of_sequence(trace(loop, node), given.sequences[k])
        return [None, *initial, *sequences, *constants]

    def _of_initial(self, g: Tensor) -> Tensor:
        """Where the gradient stops before the first step, nothing arrives at the initial state."""
        if not self.cut:
            return g
        reached = OPS["ge"](self.count, self._total())
        return OPS["switch"](reached, g, constant(0, g.element))

    def _of_sequence(self, g: Tensor, sequence: Tensor) -> Tensor:
        """The gradient for all rows of a sequence: zero for those that no step has used."""
        if g.dims[0] is sequence.dims[0] or g.dims[0] == sequence.dims[0]:
            return g
        from symtensor.ops.indexing import set_subtensor

        zeros = _zeros_like(sequence)
        if self.cut and not self.body.backwards:
            total = self._total()
            return set_subtensor(zeros[OPS["sub"](total, self.count) : total], g)
        return set_subtensor(zeros[: self.count], g)


def _saved(
    outputs: Sequence[Tensor], forward: frozenset[Tensor], free: frozenset[Tensor], recomputed: frozenset[Tensor]
) -> list[Tensor]:
    """The values of the forward steps from which ``outputs`` are computed again, each in front of what uses it.

    ``forward`` are the variables of the forward body; ``free`` the values that are stored in any case; ``recomputed``
    those that never are.
    """
    order = ancestors(outputs)
    within: set[Tensor] = set()  # depends on nothing but the forward body
    depends: set[Tensor] = set()
    for node in order:
        if node in forward:
            within.add(node)
            depends.add(node)
        elif node.op is CONSTANT:
            within.add(node)
        elif node.inputs and all(i in within for i in node.inputs):
            within.add(node)
            if any(i in depends for i in node.inputs):
                depends.add(node)
    frontier = [o for o in outputs if o in depends]
    for node in order:
        if node not in within:
            frontier += [i for i in node.inputs if i in depends]
    starts: dict[Tensor, frozenset[Tensor]] = {}
    for node in order:
        if node in depends:
            starts[node] = _starts(node, starts, depends, forward, free, recomputed)
    chosen: dict[Tensor, None] = {}
    for node in dict.fromkeys(frontier):
        cut = starts[node]
        new = [n for n in cut if n not in chosen and not _is_free(n, forward, free)]
        for start in [node] if len(new) > 1 and node not in recomputed else cut:
            chosen[start] = None
    return [node for node in order if node in chosen]


def _starts(
    node: Tensor,
    starts: Mapping[Tensor, frozenset[Tensor]],
    depends: set[Tensor],
    forward: frozenset[Tensor],
    free: frozenset[Tensor],
    recomputed: frozenset[Tensor],
) -> frozenset[Tensor]:
    """The values from which ``node`` is cheap to compute: itself, or those of its inputs."""
    if node in forward or node in free:
        return frozenset((node,))
    cheap = node.op.name in MOVES or (node.op.is_elementwise and node.op.cost <= RECOMPUTED)
    if not cheap and node not in recomputed:
        return frozenset((node,))
    united: frozenset[Tensor] = frozenset().union(*[starts[i] for i in node.inputs if i in depends])
    if node in recomputed:
        return united
    own = [n for n in united if not _is_free(n, forward, free)]
    return united if len(own) <= 1 else frozenset((node,))


def _is_free(node: Tensor, forward: frozenset[Tensor], free: frozenset[Tensor]) -> bool:
    return node in forward or node in free


def _like(x: Tensor) -> Tensor:
    return OPS["mul"](x, constant(0, x.element))


def _zeros_like(x: Tensor) -> Tensor:
    from symtensor.ops.creation import zeros_like

    return zeros_like(x)
