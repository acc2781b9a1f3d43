"""Complex numbers as pairs of real ones, in finished kernels: emitters never see a complex value.

A complex buffer becomes a real one of twice the length (real and imaginary parts alternate, as in memory); a
complex scalar becomes two. Division is Smith's ("Algorithm 116", CACM 1962), as NumPy's.
"""

from collections.abc import Sequence
from dataclasses import replace

from . import dtypes, scalar, substitution
from .errors import BackendError
from .loops import ArgUpdate, Assign, Check, Declare, For, Kernel, Leave, Statement, Store, Update, scalars
from .scalar import (
    Buffer,
    Register,
    Scalar,
    as_dim,
    as_int,
    bitcast_op,
    cast_op,
    const_op,
    guarded_op,
    load_op,
    register_op,
    select_op,
)
from .substitution import product

Pair = tuple[Scalar, Scalar]


def split_complex(kernel: Kernel) -> Kernel:
    """The same kernel on real buffers; kernels without complex values are returned as they are."""
    kinds = {b.dtype for b in kernel.buffers} | {n.dtype for n in scalars(kernel.body)}
    if not any(kind.is_complex for kind in kinds):
        return kernel
    return _Split(kernel).run()


class _Split:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.buffers = {b: _real_buffer(b) for b in kernel.buffers}
        self.registers: dict[Register, tuple[Register, Register]] = {}
        self.pairs: dict[Scalar, Pair] = {}
        self.reals: dict[Scalar, Scalar] = {}

    def run(self) -> Kernel:
        for node in scalars(self.kernel.body):
            if node.dtype.is_complex:
                self.pairs[node] = self._pair(node)
            else:
                self.reals[node] = self._real(node)
        return replace(
            self.kernel,
            buffers=tuple(self.buffers[b] for b in self.kernel.buffers),
            written=frozenset(self.buffers[b] for b in self.kernel.written),
            body=self._body(self.kernel.body),
        )

    def _real(self, node: Scalar) -> Scalar:
        """A real-valued node over split arguments."""
        name = node.op.name
        if not node.args:
            return node
        if node.op is load_op:
            return scalar.load(self.buffers[node.param], [self.reals[node.args[0]]])
        first = node.args[0] if node.op is not select_op and node.op is not guarded_op else node.args[1]
        if not first.dtype.is_complex:
            args = tuple(self.reals[a] for a in node.args)
            return node if args == node.args else substitution.rebuild(node, args)
        re, im = self.pairs[first]
        if name == "real":
            return re
        if name == "imag":
            return im
        if name in ("eq", "ne"):
            other = self.pairs[node.args[1]]
            same = scalar.eq(re, other[0]) & scalar.eq(im, other[1])
            return same if name == "eq" else ~same
        if node.op is cast_op:
            if node.dtype is dtypes.bool_:
                return scalar.ne(re, 0) | scalar.ne(im, 0)
            return scalar.cast(re, node.dtype)
        if name in ("isnan", "isinf"):
            return scalar.OPS[name](re) | scalar.OPS[name](im)
        if name == "isfinite":
            return scalar.isfinite(re) & scalar.isfinite(im)
        if name == "abs":
            return scalar.hypot(re, im)
        if name == "angle":
            return scalar.arctan2(im, re)
        raise BackendError(f"{name} of complex numbers is not implemented by the compiled backends")

    def _pair(self, node: Scalar) -> Pair:
        op, part = node.op, dtypes.real_of(node.dtype)
        name = op.name
        if op is const_op:
            return scalar.const(node.param.real, part), scalar.const(node.param.imag, part)
        if op is load_op:
            at = self.reals[node.args[0]] * 2
            buffer = self.buffers[node.param]
            return scalar.load(buffer, [at]), scalar.load(buffer, [at + 1])
        if op is register_op:
            first, second = self._pair_of_registers(node.param)
            return scalar.read(first, node.free), scalar.read(second, node.free)
        if name == "complex":
            return self.reals[node.args[0]], self.reals[node.args[1]]
        if op is cast_op:
            source = node.args[0]
            if source.dtype.is_complex:
                re, im = self.pairs[source]
                return scalar.cast(re, part), scalar.cast(im, part)
            return scalar.cast(self.reals[source], part), scalar.const(0, part)
        if op is select_op or op is guarded_op:
            condition = self.reals[node.args[0]]
            yes, no = self.pairs[node.args[1]], self.pairs[node.args[2]]
            return op(condition, yes[0], no[0]), op(condition, yes[1], no[1])
        if op is bitcast_op:
            raise BackendError("bit casts of complex numbers are not implemented")
        operands = [self.pairs[a] for a in node.args]
        return _arithmetic(name, operands)

    def _pair_of_registers(self, register: Register) -> tuple[Register, Register]:
        found = self.registers.get(register)
        if found is None:
            part = dtypes.real_of(register.dtype)
            found = Register(f"{register.name}_re", part), Register(f"{register.name}_im", part)
            self.registers[register] = found
        return found

    def _body(self, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        return tuple(one for statement in body for one in self._statement(statement))

    def _statement(self, statement: Statement) -> Sequence[Statement]:
        reals = self.reals
        match statement:
            case For(extent=extent, body=body):
                bound = reals[extent] if isinstance(extent, Scalar) else extent
                return (replace(statement, extent=bound, body=self._body(body)),)
            case Declare(register=register, value=value) if value.dtype.is_complex:
                registers = self._pair_of_registers(register)
                return [Declare(r, v) for r, v in zip(registers, self.pairs[value], strict=True)]
            case Declare(value=value):
                return (replace(statement, value=reals[value]),)
            case Update(register=register, combine=combine, value=value) if value.dtype.is_complex:
                _separable(combine)
                registers = self._pair_of_registers(register)
                return [Update(r, combine, v) for r, v in zip(registers, self.pairs[value], strict=True)]
            case Update(value=value):
                return (replace(statement, value=reals[value]),)
            case ArgUpdate(value=value, position=position):
                if value.dtype.is_complex:
                    raise BackendError("the largest of complex numbers is not defined")
                return (replace(statement, value=reals[value], position=reals[position]),)
            case Assign():
                return (self._assign(statement),)
            case Leave():
                return (Leave(reals[statement.condition]),)
            case Store(buffer=buffer, index=index, value=value, combine=combine, where=where):
                target = self.buffers[buffer]
                at = reals[index[0]]
                condition = None if where is None else reals[where]
                if not value.dtype.is_complex:
                    return (Store(target, (at,), reals[value], combine, condition),)
                _separable(combine)
                re, im = self.pairs[value]
                return [
                    Store(target, (at * 2,), re, combine, condition),
                    Store(target, (at * 2 + 1,), im, combine, condition),
                ]
            case Check(condition=condition, values=values):
                return (replace(statement, condition=reals[condition], values=tuple(reals[v] for v in values)),)

    def _assign(self, statement: Assign) -> Assign:
        registers: list[Register] = []
        values: list[Scalar] = []
        for register, given in zip(statement.registers, statement.values, strict=True):
            if given.dtype.is_complex:
                registers += self._pair_of_registers(register)
                values += self.pairs[given]
            else:
                registers.append(register)
                values.append(self.reals[given])
        return Assign(tuple(registers), tuple(values))


def _real_buffer(buffer: Buffer) -> Buffer:
    if not buffer.dtype.is_complex:
        return buffer
    return Buffer(buffer.name, dtypes.real_of(buffer.dtype), (as_dim(as_int(product(buffer.dims)) * 2),))


def _separable(combine: str | None) -> None:
    if combine not in (None, "add"):
        raise BackendError(f"the {combine} of complex numbers is not implemented by the compiled backends")


def _arithmetic(name: str, operands: Sequence[Pair]) -> Pair:
    a, b = operands[0][0], operands[0][1]
    if name == "neg":
        return -a, -b
    if name == "conj":
        return a, -b
    if len(operands) == 2:
        c, d = operands[1]
        if name == "add":
            return a + c, b + d
        if name == "sub":
            return a - c, b - d
        if name == "mul":
            return a * c - b * d, a * d + b * c
        if name == "div":
            return _quotient(a, b, c, d)
    raise BackendError(f"{name} of complex numbers is not implemented by the compiled backends")


def _quotient(a: Scalar, b: Scalar, c: Scalar, d: Scalar) -> Pair:
    """(a + bi) / (c + di), scaled by the larger part of the divisor."""
    larger = scalar.ge(scalar.abs_(c), scalar.abs_(d))
    big, small = scalar.select(larger, c, d), scalar.select(larger, d, c)
    zero = scalar.eq(big, 0)
    ratio = small / scalar.select(zero, scalar.const(1, big.dtype), big)
    scale = big + small * ratio
    re = scalar.select(larger, a + b * ratio, a * ratio + b)
    im = scalar.select(larger, b - a * ratio, b * ratio - a)
    return re / scale, im / scale
