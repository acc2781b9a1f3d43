"""Scalar expressions as CUDA C: values that are used again, or are long, get a variable; the rest stands in place.

Every open block of code has a table of the values that have a variable there. A statement that changes a register or
an array makes the values that depend on it unknown again.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from symtensor_codegen.cuda.text.operations import (
    EXACT,
    FUNCTIONS,
    MEMORY,
    REGISTER,
    SPELL,
    exact_arithmetic,
    is_expanded,
    literal,
)
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.expr import topological
from symtensor_codegen.mathlib.philox import ROUNDS
from symtensor_codegen.scalar import (
    Buffer,
    Register,
    Scalar,
    checked_op,
    const_op,
    guarded_op,
    index_op,
    load_op,
    philox32,
    philox64,
    rarely_op,
    reduce_op,
    register_op,
    symbol_op,
)
from symtensor_codegen.text import Names

LONGEST = 70  # characters of an expression before it gets a variable
# The words of C++20 and of CUDA, macros of the compiler, and the names that stages have for themselves.
_TAKEN = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype
    default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline
    int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    register reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile
    wchar_t while xor xor_eq NULL asm typeof restrict linux unix
    main threadIdx blockIdx blockDim gridDim warpSize
    status first scratch rank team item active tile u v k me owners
    """.split()  # noqa: SIM905
).union(REGISTER.values(), MEMORY.values(), FUNCTIONS, [f"{name}f" for name in FUNCTIONS])
_RESERVED = re.compile(r"[pv]\d+|(?:bool|[fiu]\d+)_\d+|st_\w*|__\w*|atomic\w+")  # parameters, packs, functions


class Identifiers:
    """C identifiers for buffers, registers and loop indices, made from their names."""

    def __init__(self) -> None:
        self._names = Names()
        self._used: set[str] = set()

    def of(self, thing: object, wanted: str) -> str:
        """The identifier of ``thing``."""
        known = self._names.known(thing)
        if known is None:
            known = self.fresh(wanted)
            self._names.give(thing, known)
        return known

    def give(self, thing: object, name: str) -> None:
        """Let ``thing`` have an identifier that exists."""
        self._names.give(thing, name)

    def fresh(self, wanted: str) -> str:
        """An identifier that nothing else has."""
        base = re.sub(r"[\W_]+", "_", wanted, flags=re.ASCII).strip("_") or "value"
        if base[0].isdigit() or _RESERVED.fullmatch(f"{base}_1"):
            base = f"n{base}"
        name, number = base, 1
        while name in self._used or name in _TAKEN or _RESERVED.fullmatch(name):
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name


class Values:
    """Writes lines of C and keeps what is known in each open block."""

    exact = False  # whether products and sums must not be merged into one rounding
    seldom = False  # whether what is written is seldom computed: it should be small rather than quick

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names = Identifiers()
        self.known: list[dict[Scalar, str]] = [{}]
        self.functions: dict[str, str] = {}  # the texts of functions that values call, by name
        self._numbers = 0
        self._bits: dict[object, int] = {}
        self._facts: dict[Scalar, int] = {}

    # Lines and blocks -------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write one line in the open block."""
        self.lines.append("    " * len(self.known) + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a block in braces; what becomes known inside is forgotten at its end."""
        self.line(f"{head} {{")
        self.known.append({})
        yield
        self.known.pop()
        self.line("}")

    def variable(self, text: str, dtype: DType) -> str:
        """A new variable with this value."""
        name = f"v{self._numbers}"
        self._numbers += 1
        self.line(f"const {REGISTER[dtype]} {name} = {bare(text)};")
        return name

    # What is known ----------------------------------------------------------------------------------------------

    def lookup(self, node: Scalar) -> str | None:
        """The variable that holds a value here."""
        for table in reversed(self.known):
            found = table.get(node)
            if found is not None:
                return found
        return None

    def forget(self, changed: Iterable[Register | Buffer]) -> None:
        """Values that depend on these are not known any more."""
        bits = 0
        for thing in changed:
            bits |= self._bits.get(self.identity(thing), 0)
        if bits:
            for table in self.known:
                for node in [n for n in table if self._depends(n) & bits]:
                    del table[node]

    def _bits_of(self, things: Iterable[Register | Buffer]) -> int:
        """Registers and buffers as bits."""
        bits = 0
        for thing in things:
            bits |= self._bit(self.identity(thing))
        return bits

    def declared(self, dtype: DType) -> str:
        """A new variable that gets its value later."""
        name = f"v{self._numbers}"
        self._numbers += 1
        self.line(f"{REGISTER[dtype]} {name} = 0;")
        return name

    def identity(self, thing: Register | Buffer) -> object:
        """What stands for a register or for the memory of a buffer."""
        return thing

    def _bit(self, thing: object) -> int:
        return self._bits.setdefault(thing, 1 << len(self._bits))

    def _depends(self, root: Scalar) -> int:
        """The registers and buffers that a value depends on, as bits."""
        facts = self._facts
        for node in topological([root], lambda n: () if n in facts else n.args):
            if node in facts:
                continue
            bits = 0
            for argument in node.args:
                bits |= facts[argument]
            if node.op is register_op or node.op is load_op:
                bits |= self._bit(self.identity(node.param))
            facts[node] = bits
        return facts[root]

    # Spelling ---------------------------------------------------------------------------------------------------

    def value(self, root: Scalar) -> str:
        """The text of a value, to be used at once."""
        order = topological([root], self._parts)
        uses: dict[Scalar, int] = {}
        for node in order:
            for part in self._parts(node):
                uses[part] = uses.get(part, 0) + 1
        texts: dict[Scalar, str] = {}
        for node in order:
            held = self.lookup(node)
            if held is not None:
                texts[node] = held
            elif not node.args:
                texts[node] = self.leaf(node)
            elif node.op is guarded_op or node.op is rarely_op:
                texts[node] = self._guarded(node, texts)
            else:
                text = self._spell(node, [texts[a] for a in node.args])
                self._depends(node)
                checks = node.op is checked_op  # in a statement of its own: C leaves out the side not chosen
                if checks or uses.get(node, 0) > 1 or (len(text) > LONGEST and node is not root):
                    text = self.known[-1][node] = self.variable(text, node.dtype)
                texts[node] = text
        return texts[root]

    def held(self, root: Scalar) -> str:
        """A variable that holds a value, or a constant."""
        text = self.value(root)
        if re.fullmatch(r"\w+", text):
            return text
        self._depends(root)
        text = self.known[-1][root] = self.variable(text, root.dtype)
        return text

    def _parts(self, node: Scalar) -> tuple[Scalar, ...]:
        """What must be spelled before a node."""
        if self.lookup(node) is not None:
            return ()
        if node.op is guarded_op or node.op is rarely_op:
            return (node.args[0], node.args[2])
        return node.args

    def _guarded(self, node: Scalar, texts: dict[Scalar, str]) -> str:
        """A value computed only where its condition holds."""
        condition, value, other = node.args
        self._depends(node)
        name = f"v{self._numbers}"
        self._numbers += 1
        self.line(f"{REGISTER[node.dtype]} {name} = {bare(texts[other])};")
        seldom, self.seldom = self.seldom, self.seldom or node.op is rarely_op
        with self.block(f"if ({bare(texts[condition])})"):
            self.line(f"{name} = {bare(self.value(value))};")
        self.seldom = seldom
        self.known[-1][node] = name
        return name

    def leaf(self, node: Scalar) -> str:
        """A constant, index, parameter or register."""
        if node.op is const_op:
            return literal(node.param, node.dtype)
        if node.op is index_op:
            return self.names.of(node, node.param.name)
        if node.op is register_op:
            return self.names.of(node.param, node.param.name)
        if node.op is symbol_op and isinstance(node.param, tuple) and node.param[0] == "parameter":
            return f"p{node.param[1]}"
        raise InternalError(f"a finished kernel holds {node!r}")

    def _spell(self, node: Scalar, operands: list[str]) -> str:
        op = node.op
        if op is load_op:
            return self.load(node.param, node.args[0], operands[0])
        if op is checked_op:
            return self.checked(node, operands)
        if op is reduce_op:
            raise InternalError("a finished kernel holds a reduction")
        if op is philox64 or op is philox32:
            return f"st_{op.name}<{1 if self.seldom else ROUNDS}>({', '.join(map(bare, operands))})"
        if is_expanded(node):
            name = function_name(node)
            if name not in self.functions:
                from symtensor_codegen.cuda.text.functions import function_text

                self.functions.update(function_text(node.op, tuple(a.dtype for a in node.args)))
            return f"{name}({', '.join(bare(o) for o in operands)})"
        if self.exact and op.name in EXACT:
            return exact_arithmetic(node, *operands)
        return SPELL[op.name](node, *operands)

    def load(self, buffer: Buffer, place: Scalar, at: str) -> str:
        """An element of a buffer."""
        raise InternalError("no memory here")

    def checked(self, node: Scalar, operands: Sequence[str]) -> str:
        """An index that was checked."""
        raise InternalError("nothing can fail here")


def function_name(node: Scalar) -> str:
    """The name of the function that computes an operation on these types."""
    kinds = dict.fromkeys(a.dtype.name for a in node.args)
    return f"st_{node.op.name}_{'_'.join(kinds)}"


def bare(text: str) -> str:
    """An expression without parentheses around the whole of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and position < len(text) - 1:
            return text
    return text[1:-1]


def identifier(name: str) -> str:
    """A name as people give it, as a part of a name in C."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)
