"""The textual form of scalar expressions and kernels: for people, for golden tests, and as the cache key.

Loop indices, buffers, registers and parameters are numbered in order of appearance, so two kernels that differ in
nothing but the identity of those have the same text.
"""

from .expr import topological
from .loops import (
    ArgUpdate,
    Assign,
    Check,
    Declare,
    For,
    Kernel,
    Leave,
    Statement,
    Store,
    Update,
    loop_indices,
    statements,
    values_of,
)
from .scalar import (
    Dim,
    Register,
    Scalar,
    bitcast_op,
    cast_op,
    checked_op,
    const_op,
    index_op,
    load_op,
    reduce_op,
    register_op,
    symbol_op,
)

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "eq": "==", "ne": "!=", "lt": "<",
    "le": "<=", "gt": ">", "ge": ">=", "bit_and": "&", "bit_or": "|", "bit_xor": "^", "shl": "<<", "shr": ">>",
}  # fmt: skip


class Names:
    """Short, stable names for the identities in a text."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}
        self._counts: dict[str, int] = {}

    def copy(self) -> "Names":
        """The same names, to add others to."""
        made = Names()
        made._names, made._counts = dict(self._names), dict(self._counts)
        return made

    def of(self, thing: object, prefix: str) -> str:
        """The name of ``thing``, made with ``prefix`` and the next number the first time."""
        found = self._names.get(thing)
        if found is None:
            number = self._counts.get(prefix, 0)
            self._counts[prefix] = number + 1
            self._names[thing] = found = f"{prefix}{number}"
        return found

    def known(self, thing: object) -> str | None:
        """The name of ``thing``, if it has one."""
        return self._names.get(thing)

    def give(self, thing: object, name: str) -> None:
        """Use ``name`` for ``thing``."""
        self._names[thing] = name


def constant_text(node: Scalar) -> str:
    """A constant with its type, exactly."""
    value = node.param
    if node.dtype.kind == "f":
        return f"{value!r}:{node.dtype.name}"
    if node.dtype.kind == "c":
        return f"complex({value.real!r}, {value.imag!r}):{node.dtype.name}"
    return str(value) if node.dtype.name == "int64" else f"{value}:{node.dtype.name}"


def _symbol_text(node: Scalar, names: Names) -> str:
    given = names.known(node)
    if given is not None:
        return given
    token = node.param
    if isinstance(token, tuple) and token and token[0] == "parameter":
        return f"p{token[1]}"
    if isinstance(token, tuple) and len(token) == 3 and token[0] == "dim":
        return f"{token[1]}.shape[{token[2]}]"
    if isinstance(token, tuple) and len(token) == 2:
        return f"{token[0]}({token[1]})"
    return names.of(token, "s")


def _spell(node: Scalar, args: list[str], names: Names) -> str:
    op = node.op
    if op is const_op:
        return constant_text(node)
    if op is index_op:
        return names.of(node, node.param.name.rstrip("0123456789"))
    if op is symbol_op:
        return _symbol_text(node, names)
    if op is register_op:
        return names.of(node.param, "r")
    if op is load_op:
        return f"{names.of(node.param, 'b')}[{', '.join(args)}]"
    if op is cast_op or op is bitcast_op:
        return f"{op.name}({args[0]}, {node.dtype.name})"
    if op is checked_op:
        return f"checked({args[0]}, {args[1]}, {names.of(node.param, 'm')})"
    if op is reduce_op:
        index = names.of(node.param.index, node.param.index.param.name.rstrip("0123456789"))
        return f"{node.param.combine}[{index}]({args[0]})"
    sign = _INFIX.get(op.name)
    if sign is not None:
        return f"({args[0]} {sign} {args[1]})"
    return f"{op.name}({', '.join(args)})"


def scalar_text(value: Dim, names: Names | None = None) -> str:
    """An expression on one line."""
    if isinstance(value, int):
        return str(value)
    names = Names() if names is None else names
    texts: dict[Scalar, str] = {}
    for node in topological([value], lambda n: n.args):
        texts[node] = _spell(node, [texts[a] for a in node.args], names)
    return texts[value]


class _Writer:
    """Writes statements line by line; a value used again is written once and named."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.lines: list[str] = []
        self.texts: dict[Scalar, str] = {}

    def line(self, depth: int, text: str) -> None:
        self.lines.append("  " * depth + text)

    def value(self, value: Dim, depth: int) -> str:
        if isinstance(value, int):
            return str(value)
        texts = self.texts
        for node in topological([value], lambda n: () if n in texts else n.args):
            if node in texts:
                continue
            spelled = _spell(node, [texts[a] for a in node.args], self.names)
            if node.args and len(spelled) > 24:
                name = self.names.of(node, "v")
                self.line(depth, f"{name} = {spelled}")
                spelled = name
            texts[node] = spelled
        return texts[value]

    def block(self, body: tuple[Statement, ...], depth: int) -> None:
        for statement in body:
            self.statement(statement, depth)

    def statement(self, statement: Statement, depth: int) -> None:
        values = {value: self.value(value, depth) for value in values_of(statement)}
        register = self._register
        match statement:
            case For(index=index, extent=extent, body=body, kind=kind, width=width, unroll=unroll):
                name = self.names.of(index, index.param.name.rstrip("0123456789"))
                shown = values[extent] if isinstance(extent, Scalar) else str(extent)
                marks = f" {kind.value}" + f" width={width}" * (width > 1) + f" unroll={unroll}" * (unroll > 1)
                self.line(depth, f"for {name} < {shown}{marks}:")
                if any(isinstance(s, Assign) for s in statements(body)):
                    self._forget_reads()
                before = dict(self.texts)
                self.block(body, depth + 1)
                self.texts = before
            case Declare(register=target, value=value):
                self.line(depth, f"{register(target)}: {target.dtype} = {values[value]}")
            case Update(register=target, combine=combine, value=value):
                self.line(depth, f"{register(target)} = {combine}({register(target)}, {values[value]})")
                self._forget_reads()
            case ArgUpdate(best=best, place=place, combine=combine, value=value, position=position):
                self.line(
                    depth, f"{register(best)}, {register(place)} = {combine}({values[value]} at {values[position]})"
                )
                self._forget_reads()
            case Assign(registers=targets, values=given):
                results = ", ".join(values[v] for v in given)
                self.line(depth, f"{', '.join(register(r) for r in targets)} = {results}")
                self._forget_reads()
            case Leave():
                self.line(depth, f"leave where {values[statement.condition]}")
            case Store(buffer=buffer, index=index, value=value, combine=combine, where=where):
                at = ", ".join(values[i] for i in index)
                condition = f" where {values[where]}" if where is not None else ""
                sign = f"{combine}=" if combine else "="
                self.line(depth, f"{self.names.of(buffer, 'b')}[{at}] {sign} {values[value]}{condition}")
            case Check(condition=condition, message=message, values=shown):
                listed = "".join(f", {values[v]}" for v in shown)
                self.line(depth, f"check {values[condition]}, {self.names.of(message, 'm')}{listed}")

    def _register(self, register: Register) -> str:
        return self.names.of(register, "r")

    def _forget_reads(self) -> None:
        """Values that read registers are written again after an update."""
        stale: set[Scalar] = set()
        for node in self.texts:
            if node.op is register_op or any(a in stale for a in node.args):
                stale.add(node)
        for node in stale:
            if node.op is not register_op:
                del self.texts[node]


def kernel_text(kernel: Kernel, names: Names | None = None) -> str:
    """A kernel as text, for people, with the names that ``names`` has for symbols; without, for use as a key."""
    canonical = names is None
    names = Names() if names is None else names.copy()
    for position, buffer in enumerate(kernel.buffers):
        names.give(buffer, f"b{position}" if canonical else buffer.name)
    for position, buffer in enumerate(kernel.local):
        names.give(buffer, f"own{position}" if canonical else buffer.name)
    for number, message in enumerate(kernel.failures):
        names.give(message, f"m{number}")
    for index in loop_indices(kernel.body) if canonical else ():
        names.of(index, "i")
    writer = _Writer(names)
    for buffer in kernel.buffers:
        # Code addresses elements by flat index: the same kernel over other sizes has the same key.
        sizes = "" if canonical else f"[{', '.join(scalar_text(d, names) for d in buffer.dims)}]"
        written = " written" if buffer in kernel.written else ""
        writer.line(1, f"{names.of(buffer, 'b')}: {buffer.dtype}{sizes}{written}")
    for buffer in kernel.local:
        writer.line(1, f"{names.of(buffer, 'b')}: {buffer.dtype}[{buffer.dims[0]}] its own")
    if not canonical:
        for position, value in enumerate(kernel.parameters):
            writer.line(1, f"p{position} = {scalar_text(value, names)}")
    writer.block(kernel.body, 1)
    head = "kernel" if canonical else f"kernel {kernel.name}" + (f"  # {kernel.note}" if kernel.note else "")
    return "\n".join([f"{head}:", *writer.lines])
