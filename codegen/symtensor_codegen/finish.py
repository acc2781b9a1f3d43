"""From the kernels that a lowering builds to finished ones that backends emit.

Built kernels index buffers with one index a dimension and mention symbolic sizes anywhere. Finishing collapses
neighbouring loops that run through memory in order, turns indices into flat offsets, and makes every value that is
known before the launch a parameter, so that a finished kernel is a function of pointers and int64 parameters only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import dtypes, scalar, substitution
from .complexes import split_complex
from .expr import topological
from .loops import (
    For,
    Kernel,
    Leave,
    LoopKind,
    Statement,
    Store,
    map_values,
    parameter,
    scalars,
    statements,
    values_of,
)
from .scalar import Buffer, Dim, Scalar, as_dim, as_int, checked_op, const_op, load_op, symbol_op
from .substitution import product


def collapse(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Merge perfectly nested loops whose indices only ever appear side by side in buffer indices.

    Each buffer must have, on the two axes, the extents of the two loops (so the pair runs through memory in order).
    """
    while True:
        pair = _collapsible(body)
        if pair is None:
            return body
        body = _merge(body, *pair)


def _collapsible(body: tuple[Statement, ...]) -> tuple[For, For] | None:
    nests = [s for s in statements(body) if isinstance(s, For) and len(s.body) == 1 and isinstance(s.body[0], For)]
    for outer in nests:
        inner = outer.body[0]
        assert isinstance(inner, For)
        if any(isinstance(statement, Leave) for statement in inner.body):
            continue  # it ends the inner loop only
        if inner.kind is LoopKind.SERIAL and _side_by_side(body, outer, inner):
            return outer, inner
    return None


def _side_by_side(body: tuple[Statement, ...], outer: For, inner: For) -> bool:
    i, j = outer.index, inner.index
    row, position = _position(i, j)
    for loop in statements(body):
        if isinstance(loop, For):
            if loop is not outer and loop is not inner and loop.index in (i, j):
                return False
            if isinstance(loop.extent, Scalar) and (i in loop.extent.free or j in loop.extent.free):
                return False
    for node in scalars(body):
        if node is row or node is position:
            continue
        if (i in node.args or j in node.args or row in node.args) and node.op is not load_op:
            return False
        if node.op is load_op and not _paired(node.param, node.args, outer, inner):
            return False
    for statement in statements(body):
        if isinstance(statement, Store):
            if not _paired(statement.buffer, statement.index, outer, inner):
                return False
            direct: tuple[Scalar | None, ...] = (statement.value, statement.where)
        else:
            direct = () if isinstance(statement, For) else values_of(statement)
        if i in direct or j in direct or row in direct:
            return False
    return True


def _position(outer: Scalar, inner: Scalar) -> tuple[Scalar, Scalar]:
    """The place where a row begins, and that of an element, among all elements that two loops run through."""
    row = outer * as_int(inner.param.extent)
    return row, row + inner


def _paired(buffer: Buffer, at: tuple[Scalar, ...], outer: For, inner: For) -> bool:
    """Whether the two loop indices are absent, or stand side by side on axes of their extents."""
    i, j = outer.index, inner.index
    position = 0
    while position < len(at):
        part = at[position]
        if part is i:
            following = position + 1
            if following >= len(at) or at[following] is not j:
                return False
            if buffer.dims[position] != outer.extent or buffer.dims[following] != inner.extent:
                return False
            position += 2
            continue
        if i in part.free or j in part.free:
            return False
        position += 1
    return True


def _merge(body: tuple[Statement, ...], outer: For, inner: For) -> tuple[Statement, ...]:
    extent = product((outer.extent, inner.extent))
    merged = scalar.index(outer.index.param.name, extent)
    flat: dict[tuple[Buffer, int], Buffer] = {}  # a buffer may be read with the loops on several pairs of its axes
    position = _position(outer.index, inner.index)[1]
    memo: dict[Scalar, Scalar] = {position: merged}

    def shape(buffer: Buffer, position: int) -> Buffer:
        made = flat.get((buffer, position))
        if made is None:
            dims = (*buffer.dims[:position], extent, *buffer.dims[position + 2 :])
            made = flat[buffer, position] = _Reshaped(buffer, dims)
        return made

    def pair(buffer: Buffer, at: tuple[Scalar, ...]) -> tuple[Buffer, tuple[Scalar, ...]]:
        if outer.index not in at:
            return buffer, at
        position = at.index(outer.index)
        return shape(buffer, position), (*at[:position], merged, *at[position + 2 :])

    for node in scalars(body):
        if node is position:
            continue
        if node.op is load_op and outer.index in node.args:
            buffer, at = pair(node.param, node.args)
            memo[node] = scalar.load(buffer, at)
        elif node.args:
            args = tuple(memo[a] for a in node.args)
            memo[node] = node if args == node.args else substitution.rebuild(node, args)
        else:
            memo[node] = node

    def one(statement: Statement) -> Statement:
        if statement is outer:
            return For(merged, extent, tuple(one(s) for s in inner.body), outer.kind)
        if isinstance(statement, For):
            return replace(statement, body=tuple(one(s) for s in statement.body))
        if isinstance(statement, Store):
            buffer, at = pair(statement.buffer, statement.index)
            return replace(statement, buffer=buffer, index=at)
        return statement

    changed = tuple(one(statement) for statement in body)
    return map_values(changed, lambda value: memo.get(value, value))


def merge_indices(value: Scalar, outer: Scalar, inner: Scalar, merged: Scalar) -> Scalar | None:
    """``value`` over one index that runs through both; None where the two are not used side by side in memory."""
    loops = For(outer, outer.param.extent, ()), For(inner, inner.param.extent, ())
    row, position = _position(outer, inner)
    memo: dict[Scalar, Scalar] = {position: merged}
    for node in topological([value], lambda n: n.args):
        if node is outer or node is inner or node is row or node is position:
            continue
        if node.op is load_op and (outer in node.args or inner in node.args):
            if not _paired(node.param, node.args, *loops):
                return None
            axis = node.args.index(outer)
            dims = node.param.dims
            flat = _Reshaped(node.param, (*dims[:axis], merged.param.extent, *dims[axis + 2 :]))
            memo[node] = scalar.load(flat, (*node.args[:axis], merged, *node.args[axis + 2 :]))
        elif outer in node.free or inner in node.free:
            args = tuple(memo.get(a, a) for a in node.args)
            if outer in args or inner in args or row in args:
                return None
            memo[node] = substitution.rebuild(node, args)
        else:
            memo[node] = node
    return memo.get(value)


class _Reshaped(Buffer):
    """The same memory with other sizes."""

    __slots__ = ("base",)

    def __init__(self, base: Buffer, dims: tuple[Dim, ...]) -> None:
        super().__init__(base.name, base.dtype, dims)
        self.base: Buffer = base


def storage(buffer: Buffer) -> Buffer:
    """The buffer whose memory this one names."""
    while isinstance(buffer, _Reshaped):
        buffer = buffer.base
    return buffer


def reshaped(buffer: Buffer, dims: tuple[Dim, ...]) -> Buffer:
    """Another view of the memory of ``buffer`` with the same number of elements."""
    return _Reshaped(buffer, dims)


def flat_offset(buffer: Buffer, at: tuple[Scalar, ...]) -> Scalar:
    """The offset in elements of an element of a C-contiguous buffer."""
    offset = scalar.as_int(0)
    for position, index in enumerate(at):
        if index.op is const_op and index.param == 0:
            continue
        offset = offset + index * as_int(product(buffer.dims[position + 1 :]))
    return offset


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished kernel with the actual buffers and parameter values of one launch, and the launch's size."""

    kernel: Kernel
    buffers: tuple[Buffer, ...]
    parameters: tuple[Dim, ...]
    extent: Dim


def finish(
    name: str,
    body: tuple[Statement, ...],
    failures: tuple[object, ...],
    note: str,
    sizes: Mapping[Scalar, Scalar],
    local: tuple[Buffer, ...] = (),
) -> Finished:
    """Finish a kernel body; ``sizes`` maps symbols to what is known to be equal to them.

    The kernel's buffers are numbered in order of first use, written ones first; ``local`` ones are its own.
    """
    body = collapse(body)
    actual: list[Buffer] = []
    formal: dict[Buffer, Buffer] = {}
    own = {buffer: Buffer(buffer.name, buffer.dtype, (product(buffer.dims),)) for buffer in local}
    written: set[Buffer] = set()

    def buffer_of(buffer: Buffer) -> Buffer:
        base = storage(buffer)
        found = formal.get(base) or own.get(base)
        if found is None:
            found = formal[base] = Buffer(base.name, base.dtype, (product(base.dims),))
            actual.append(base)
        return found

    for statement in statements(body):
        if isinstance(statement, Store):
            written.add(buffer_of(statement.buffer))

    # Offsets first (they introduce size arithmetic), then parameters: the largest expressions known at launch.
    memo: dict[Scalar, Scalar] = dict(sizes)
    for node in scalars(body):
        if node in memo:
            continue
        args = tuple(memo[a] for a in node.args)
        if node.op is load_op:
            offset = substitution.substitute(flat_offset(node.param, args), sizes)
            memo[node] = scalar.load(buffer_of(node.param), (offset,))
        else:
            memo[node] = node if args == node.args else substitution.rebuild(node, args)

    def changed(value: Scalar) -> Scalar:
        return memo.get(value, value)

    def one(statement: Statement) -> Statement:
        if isinstance(statement, For):
            extent = changed(statement.extent) if isinstance(statement.extent, Scalar) else statement.extent
            return replace(statement, extent=extent, body=tuple(one(s) for s in statement.body))
        if isinstance(statement, Store):
            offset = flat_offset(statement.buffer, tuple(memo[i] for i in statement.index))
            where = None if statement.where is None else memo[statement.where]
            return Store(
                buffer_of(statement.buffer), (substitution.substitute(offset, sizes),), memo[statement.value],
                statement.combine, where,
            )  # fmt: skip
        return map_values((statement,), changed)[0]

    body = tuple(one(statement) for statement in body)
    outer = body[0] if len(body) == 1 and isinstance(body[0], For) else None
    parallel = outer is not None and outer.kind is LoopKind.PARALLEL
    extent: Dim = outer.extent if outer is not None and parallel else 1
    values, body = _parameters(body)
    kernel = Kernel(
        name, tuple(formal.values()), tuple(as_int(v) for v in values), body, failures, note, frozenset(written),
        tuple(own.values()),
    )  # fmt: skip
    return Finished(split_complex(kernel), tuple(actual), tuple(values), as_dim(extent))


PLAIN_CONSTANTS = frozenset((0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5))


def _parameters(body: tuple[Statement, ...]) -> tuple[list[Dim], tuple[Statement, ...]]:
    """Replace the largest int64 expressions over symbols by parameters, and constants by the bits of a double.

    Kernels that differ in constants only are one kernel then, compiled once. Constants that operations treat
    specially (exponents, 0, 1, 2 ...) stay.
    """
    nodes = scalars(body)
    known: dict[Scalar, bool] = {}
    for node in nodes:
        if node.op is symbol_op or node.op is const_op:
            known[node] = True
        elif not node.args or node.op in (load_op, checked_op) or node.dtype is not dtypes.int64:
            known[node] = False
        else:
            known[node] = all(known[a] for a in node.args)
    values: list[Dim] = []
    exponents = {n.args[1] for n in nodes if n.op is scalar.pow_}

    def formal(node: Scalar) -> Scalar:
        values.append(as_dim(node))
        return parameter(len(values) - 1)

    result: dict[Scalar, Scalar] = {}
    used = {a for n in nodes if not known[n] for a in n.args}
    for statement in statements(body):
        used.update(values_of(statement))
    for node in nodes:
        if known[node] and node.op is not const_op:
            if node in used and node.dtype is dtypes.int64:
                result[node] = formal(node)
            else:
                result[node] = node if not node.args else _over(node, result)
        elif node.args:
            result[node] = _over(node, result)
        elif node.op is const_op and node not in exponents and _is_parameter(node):
            bits = formal(scalar.bitcast(scalar.const(node.param, dtypes.float64), dtypes.int64))
            result[node] = scalar.cast(scalar.bitcast(bits, dtypes.float64), node.dtype)
        else:
            result[node] = node
    return values, map_values(body, lambda value: result.get(value, value))


def _is_parameter(node: Scalar) -> bool:
    if node.dtype not in (dtypes.float32, dtypes.float64):
        return False
    return math.isfinite(node.param) and node.param not in PLAIN_CONSTANTS


def _over(node: Scalar, result: Mapping[Scalar, Scalar]) -> Scalar:
    args = tuple(result[a] for a in node.args)
    return node if args == node.args else substitution.rebuild(node, args)
