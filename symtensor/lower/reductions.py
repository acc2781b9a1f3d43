"""Reductions in canonical form: one loop index for each nesting level, and long ones in two stages."""

from collections.abc import Callable

from symtensor_codegen import scalar, substitution
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import merge_indices
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_int, reduce_op
from symtensor_codegen.substitution import product

from .sizes import Sizes

CHUNK = 1 << 14  # elements that one step of the first stage of a reduction handles

Helper = Callable[[tuple[Dim, ...], tuple[Scalar, ...], Scalar], Buffer]  # sizes, indices, value -> where it is stored


class Loops:
    """The canonical loop indices of a program: one object for each nesting level and extent."""

    def __init__(self) -> None:
        self._loops: dict[tuple[int, Dim], Scalar] = {}
        self._levels: dict[Scalar, int] = {}

    def at(self, level: int, extent: Dim) -> Scalar:
        """The loop index of nesting level ``level`` with this extent."""
        key = (level, extent)
        found = self._loops.get(key)
        if found is None:
            found = self._loops[key] = scalar.index("ijklmnpq"[level % 8], extent)
            self._levels[found] = level
        return found

    def below(self, value: Scalar) -> int:
        """The first nesting level below every loop that ``value`` depends on."""
        return 1 + max((self._levels[i] for i in value.free if i in self._levels), default=-1)

    def fresh(self, value: Scalar, outer: tuple[Scalar, ...], extent: Dim) -> Scalar:
        """A loop index that is neither among ``outer`` nor anywhere in ``value``."""
        taken = [self._levels[n] for n in (*outer, *topological([value], lambda n: n.args)) if n in self._levels]
        return self.at(1 + max(taken, default=-1), extent)


class Reductions:
    """Rewrites the reductions of one unit's value."""

    def __init__(self, loops: Loops, sizes: Sizes, helper: Helper) -> None:
        self.loops, self.sizes, self.helper = loops, sizes, helper

    def canonical(self, value: Scalar) -> Scalar:
        """Give every reduction the canonical index of its nesting level (inner reductions below outer ones)."""
        nodes = topological([value], lambda n: n.args)
        if not any(n.op is reduce_op for n in nodes):
            return value
        return self._relevel(value, {})

    def _relevel(self, value: Scalar, memo: dict[Scalar, Scalar]) -> Scalar:
        for node in topological([value], lambda n: () if n in memo or n.op is reduce_op else n.args):
            if node in memo:
                continue
            if node.op is reduce_op:
                memo[node] = self._relevel_reduce(node)
            elif node.args:
                args = tuple(memo[a] for a in node.args)
                memo[node] = node if args == node.args else substitution.rebuild(node, args)
            else:
                memo[node] = node
        return memo[value]

    def _relevel_reduce(self, node: Scalar) -> Scalar:
        reduction = node.param
        if self.sizes.of(reduction.index.param.extent) == 1:
            only = substitution.substitute(node.args[0], {reduction.index: as_int(0)})
            is_place = reduction.combine in scalar.ARG_COMBINES
            return scalar.const(0, node.dtype) if is_place else self._relevel(only, {})
        node = collapse_reduction(node)
        reduction = node.param
        extent = self.sizes.of(reduction.index.param.extent)
        index = self.loops.at(self.loops.below(node), extent)
        body = node.args[0]
        if index is not reduction.index and index in topological([body], lambda n: n.args):
            body = _renamed(body)  # a reduction inside has it from an earlier time
        body = substitution.substitute(body, {reduction.index: index})
        return scalar.reduce(reduction.combine, index, self._relevel(body, {}))

    def staged(self, value: Scalar, dims: tuple[Dim, ...]) -> Scalar:
        """Split reductions that depend on no loop index in two: chunks of a fixed size, then the chunks' results.

        The result is the same for any number of threads, the first stage runs in parallel, and errors of rounding
        grow as in pairwise summation.
        """
        whole = [n for n in topological([value], lambda n: n.args) if n.op is reduce_op and not n.free]
        for position, found in enumerate(whole):
            staged = self._two_stages(found)
            if found is value and staged is None:
                return value
            result = staged if staged is not None else found
            if dims or position + 1 < len(whole):
                result = scalar.load(self.helper((), (), result), ())
            if found is value:
                return result
            replaced = {found: result}
            value = substitution.substitute(value, replaced)
            whole[position + 1 :] = [substitution.substitute(w, replaced) for w in whole[position + 1 :]]
        return value

    def _two_stages(self, whole: Scalar) -> Scalar | None:
        reduction, body = whole.param, whole.args[0]
        extent: Dim = reduction.index.param.extent
        inner: Dim = 1
        nested = body
        while nested.op is reduce_op:
            inner = product((inner, nested.param.index.param.extent))
            nested = nested.args[0]
        total = product((extent, inner))
        if isinstance(total, int) and total <= CHUNK:
            return None
        step: Dim = CHUNK if inner == 1 else scalar.as_dim(scalar.maximum(as_int(CHUNK) // as_int(inner), as_int(1)))
        count = scalar.as_dim((as_int(extent) + as_int(step) - 1) // as_int(step))
        chunk = self.loops.at(0, count)
        start = chunk * as_int(step)
        within = self.loops.at(1, scalar.as_dim(scalar.minimum(as_int(step), as_int(extent) - start)))
        body = self._relevel(substitution.substitute(body, {reduction.index: start + within}), {})
        part_value = scalar.reduce(reduction.combine, within, body)
        if reduction.combine in scalar.ARG_COMBINES:
            part_value = start + part_value
        part = self.helper((count,), (chunk,), part_value)
        here = scalar.load(part, (chunk,))
        if reduction.combine not in scalar.ARG_COMBINES:
            return scalar.reduce(reduction.combine, chunk, here)
        best = substitution.substitute(whole.args[0], {reduction.index: here})
        return scalar.load(part, (scalar.reduce(reduction.combine, chunk, best),))


def _renamed(value: Scalar) -> Scalar:
    """``value`` with an index of its own for every reduction."""
    memo: dict[Scalar, Scalar] = {}
    for node in topological([value], lambda n: n.args):
        args = tuple(memo[a] for a in node.args)
        if node.op is reduce_op:
            old = node.param.index
            new = scalar.index("r", old.param.extent)
            memo[node] = scalar.reduce(node.param.combine, new, substitution.substitute(args[0], {old: new}))
        else:
            memo[node] = node if args == node.args else substitution.rebuild(node, args)
    return memo[value]


def collapse_reduction(whole: Scalar) -> Scalar:
    """Merge a reduction over two neighbouring axes that is read in memory order into one over both."""
    while whole.args[0].op is reduce_op and whole.args[0].param.combine == whole.param.combine:
        inner = whole.args[0]
        outer_index, inner_index = whole.param.index, inner.param.index
        extent = product((outer_index.param.extent, inner_index.param.extent))
        merged = scalar.index("r", extent)
        body = merge_indices(inner.args[0], outer_index, inner_index, merged)
        if body is None:
            return whole
        whole = scalar.reduce(whole.param.combine, merged, body)
    return whole
