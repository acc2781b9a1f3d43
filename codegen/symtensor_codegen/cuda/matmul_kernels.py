"""Matrix products as CUDA text: tiles in shared memory, blocks of results in registers.

A block of threads computes one tile of the product. It goes through k in stages: while it multiplies one stage, the
following ones are copied from global to shared memory. Where tiles are small, the threads form several *slices* that
share the depth of every stage; each slice has sums of its own for the whole tile, and they are added at the end in a
fixed order. So a product of few elements and many terms keeps many threads busy in one launch.

Both operands may lie either way round. One whose neighbours lie along k is kept so in shared memory (a thread then
reads several terms of one row at once), one whose neighbours lie along its rows or columns too (a thread reads several
rows of one term): nothing is transposed on the way.

A long k may besides be *split* among blocks. Each leaves its sums in scratch memory, and a second kernel
(``combine_text``) adds them, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from symtensor_codegen.cuda import matmul_tensor_cores as tensor_cores
from symtensor_codegen.cuda.matmul_functions import COPIES, ELEMENTS, Element, arithmetic
from symtensor_codegen.cuda.prelude import TYPES

__all__ = ["ELEMENTS", "PRECISIONS", "Element", "Epilogue", "Tile", "Variant", "combine_text", "matmul_text"]

PRECISIONS: Final = ("float32", "tf32", "bfloat16", "float16")

SHARED_LIMIT: Final = 48 << 10
"""Bytes of shared memory that a block may declare."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How a block does its part: the tile, what of it a thread has in registers, slices, and how far it looks ahead.

    With tensor cores a warp has the rows and columns that otherwise a thread has. ``depth`` is that of a stage, all
    slices together.
    """

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    slices: int
    depth: int
    stages: int

    @property
    def group(self) -> int:
        """Threads (with tensor cores: warps) of a slice."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What becomes of each result before it is stored: statements over ``value``, ``row`` and ``column``.

    ``pointers`` names further arguments, arrays of the element type, which the statements may read:
    ``Epilogue("value = value + bias[column]; value = value > 0 ? value : 0;", ("bias",))``. ``parameters`` are
    arguments of other types (C, each after a comma), ``functions`` what the statements call, and ``name`` ends that of
    the kernel. Without ``keeps`` nothing is stored but what the statements store.
    """

    text: str = ""
    pointers: tuple[str, ...] = ()
    parameters: str = ""
    functions: str = ""
    name: str = ""
    keeps: bool = True

    def arguments(self, element: Element) -> str:
        """The further arguments of a kernel, each after a comma."""
        return "".join(f", const {element.spelling}* __restrict__ {name}" for name in self.pointers) + self.parameters


@dataclass(frozen=True, slots=True)
class Variant:
    """One kernel. ``a_along_k``: the neighbours of an element of ``a`` in memory are further terms, not further rows.

    ``a_chunk`` and ``b_chunk`` are the elements copied at once, as many as both operand's alignments allow.
    """

    element: Element
    tile: Tile
    a_along_k: bool
    b_along_k: bool
    a_chunk: int
    b_chunk: int
    precision: str = "float32"
    split: bool = False
    epilogue: Epilogue = Epilogue()

    @property
    def uses_tensor_cores(self) -> bool:
        """Whether operands are rounded and multiplied by tensor cores."""
        return self.precision != "float32"

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.tile.group * self.tile.slices * (32 if self.uses_tensor_cores else 1)

    @property
    def symbol(self) -> str:
        """A name that tells what the kernel is for."""
        tile, layouts = self.tile, f"{'rc'[not self.a_along_k]}{'rc'[self.b_along_k]}"
        kind = self.precision if self.uses_tensor_cores else self.element.spelling
        parts = f"{tile.rows}x{tile.columns}x{tile.depth}_{tile.thread_rows}x{tile.thread_columns}x{tile.slices}"
        end = f"{'_split' if self.split else ''}{'_' if self.epilogue.name else ''}{self.epilogue.name}"
        return f"matmul_{kind}_{layouts}_{parts}_{self.a_chunk}{self.b_chunk}{end}"


def matmul_text(variant: Variant) -> str:
    """The whole text of a product's kernel, named ``variant.symbol``."""
    element, tile = variant.element, variant.tile
    a = _Operand(variant, "a", "row", tile.rows, tile.thread_rows, variant.a_along_k, variant.a_chunk)
    b = _Operand(variant, "b", "column", tile.columns, tile.thread_columns, variant.b_along_k, variant.b_chunk)
    stage = a.elements + b.elements
    memory = max(stage * tile.stages, tile.slices * tile.rows * tile.columns if tile.slices > 1 else 0)
    assert memory * element.size <= SHARED_LIMIT, f"{variant.symbol}: {memory * element.size} bytes"
    extra, functions = variant.epilogue.arguments(element), variant.epilogue.functions
    compute = tensor_cores.Compute(variant, a, b) if variant.uses_tensor_cores else _Compute(variant, a, b)
    spelling = element.spelling
    return f"""\
{TYPES}{arithmetic(element)}{COPIES}{compute.functions}{functions}
extern "C" __global__ void __launch_bounds__({variant.threads}, 1) {variant.symbol}(
    const {spelling}* __restrict__ a, const {spelling}* __restrict__ b, {spelling}* __restrict__ out,
    i64 m, i64 n, i64 k, i64 a_stride, i64 b_stride, i64 out_stride, i64 a_batch, i64 b_batch, i64 out_batch,
    i64 depth, f64 alpha, f64 beta{extra}) {{
    __shared__ st_pack memory[{memory * element.size // 16}];
    {spelling}* const shared = ({spelling}*)memory;
    const int thread = threadIdx.x;
{compute.places}
    const i64 across = (n + {tile.columns - 1}) / {tile.columns};
    const i64 row0 = blockIdx.x / across * {tile.rows}, column0 = blockIdx.x % across * {tile.columns};
    const i64 first = blockIdx.y * depth, terms = first + depth < k ? depth : k - first;
    const int stages = terms > 0 ? (int)((terms + {tile.depth - 1}) / {tile.depth}) : 0;
    a += blockIdx.z * a_batch;
    b += blockIdx.z * b_batch;

    // What this thread copies of each stage: from where, and to where.
{a.declare}{b.declare}
    int missing = (int)terms, put = 0;
    const auto fetch = [&]() {{
        const auto at = st_place(shared, put);
        if (missing >= {tile.depth}) {{
{a.fetch("at")}{b.fetch(f"st_place(at, {a.elements})")}        }} else {{  // the last terms, and zeros
{a.fetch_last("at")}{b.fetch_last(f"st_place(at, {a.elements})")}        }}
        missing -= {tile.depth};
        put = put == {(tile.stages - 1) * stage} ? 0 : put + {stage};
    }};
{compute.declare}
    int get = 0;
    #pragma unroll 1
    for (int stage = {1 - tile.stages}; stage < stages; ++stage) {{  // before the first one only copies are begun
        if (stage >= 0) {{
            st_wait<{tile.stages - 2}>();
            __syncthreads();
        }}
        if (missing > 0) fetch();
        st_commit();
        if (stage < 0) continue;
        const {spelling}* const left = shared + get + left_at;
        const {spelling}* const right = shared + get + {a.elements} + right_at;
{compute.multiply}        get = get == {(tile.stages - 1) * stage} ? 0 : get + {stage};
    }}

{_store(variant, compute.positions)}}}
"""


def combine_text(element: Element, symbol: str, epilogue: Epilogue = Epilogue()) -> str:
    """The second kernel of a split product: the sums of ``splits`` blocks, added in order and stored."""
    extra = epilogue.arguments(element)
    return f"""\
{TYPES}{arithmetic(element)}{epilogue.functions}
extern "C" __global__ void __launch_bounds__(256) {symbol}(
    const {element.spelling}* __restrict__ partial, {element.spelling}* __restrict__ out, i64 m, i64 n, i64 batch,
    i64 splits, i64 out_stride, i64 out_batch, f64 alpha, f64 beta{extra}) {{
    const i64 size = m * n;
    for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < size * batch; i += (i64)gridDim.x * 256) {{
        const i64 matrix = i / size, place = i % size, row = place / n, column = place % n;
        const {element.spelling}* const from = partial + matrix * splits * size + place;
        {element.spelling} value = {{}};
        #pragma unroll 4
        for (i64 p = 0; p < splits; ++p) value = value + from[p * size];
        {element.spelling}* const to = out + matrix * out_batch + row * out_stride + column;
{_finish(epilogue, "        ")}    }}
}}
"""


def _finish(epilogue: Epilogue, indent: str) -> str:
    """From a sum to memory. ``to`` is not read where beta is zero: it may hold anything."""
    lines = ["value = st_scale(alpha, value);", "if (beta != 0) value = value + st_scale(beta, *to);"]
    lines += [epilogue.text] if epilogue.text else []
    return "".join(f"{indent}{line}\n" for line in (*lines, *["*to = value;"] * epilogue.keeps))


def _store(variant: Variant, positions: tuple[str, str, str, str]) -> str:
    """The end of the kernel: the slices' sums are added, and the results stored."""
    element, tile = variant.element, variant.tile
    loops, row, column, value = positions
    area = tile.rows * tile.columns
    inside = "row < m && column < n"
    if variant.split:
        place = "out[((blockIdx.z * (i64)gridDim.y + blockIdx.y) * m + row) * n + column]"
        finish = f"            {place} = value;\n"
    else:
        finish = (
            f"            {element.spelling}* const to = out + blockIdx.z * out_batch + row * out_stride + column;\n"
            f"{_finish(variant.epilogue, '            ')}"
        )
    if tile.slices == 1:
        return f"""\
    {loops}
        const i64 row = row0 + ({row}), column = column0 + ({column});
        if ({inside}) {{
            {element.spelling} value = {value};
{finish}        }}
    }}
"""
    return f"""\
    __syncthreads();  // the last stage has been read: its memory is free for the slices' sums
    {loops}
        shared[slice * {area} + ({row}) * {tile.columns} + ({column})] = {value};
    }}
    __syncthreads();
    #pragma unroll
    for (int i = thread; i < {area}; i += {variant.threads}) {{
        const i64 row = row0 + i / {tile.columns}, column = column0 + i % {tile.columns};
        if ({inside}) {{
            {element.spelling} value = shared[i];
            #pragma unroll
            for (int other = 1; other < {tile.slices}; ++other) value = value + shared[other * {area} + i];
{finish}        }}
    }}
"""


class _Operand:
    """How one operand gets into shared memory, and where its elements are then."""

    def __init__(
        self, variant: Variant, name: str, side: str, extent: int, per_thread: int, along_k: bool, chunk: int
    ) -> None:
        self.variant, self.name, self.side, self.extent, self.chunk = variant, name, side, extent, chunk
        self.along_k, self.per_thread = along_k, per_thread
        depth = variant.tile.depth
        # Lines that begin a few words apart, so that the threads of a warp read different banks of memory.
        self.line = (depth if along_k else extent) + self._padding()
        self.elements = self.line * (extent if along_k else depth)
        self.count = extent * depth // chunk
        self.each = -(-self.count // variant.threads)

    def _padding(self) -> int:
        variant = self.variant
        if variant.uses_tensor_cores:
            return tensor_cores.padding(variant.precision, self.along_k)
        narrow = variant.tile.group < 32  # a warp holds two slices, which read different terms
        return variant.element.lanes * ((2 if narrow else 1) if self.along_k else int(narrow))

    @property
    def declare(self) -> str:
        """Where this thread's copies begin.

        Of lines beyond the matrix, the last one's elements are copied instead: what comes of them is not stored.
        """
        name, chunk, depth, size = self.name, self.chunk, self.variant.tile.depth, self.size
        position = f"(thread + p * {self.variant.threads})"
        if self.along_k:
            width = depth // chunk
            places = f"line = {position} / {width}, term = {position} % {width} * {chunk}"
            to, room = f"line * {self.line} + term", str(chunk)
            begin = f"({self.side}0 + line < {size} ? {self.side}0 + line : {size} - 1) * {name}_stride + first + term"
        else:
            width = self.extent // chunk
            places = f"term = {position} / {width}, line = {position} % {width} * {chunk}"
            to, room = f"term * {self.line} + line", f"st_clamp({size} - {self.side}0 - line, {chunk})"
            begin = f"(first + term) * {name}_stride + {self.side}0 + line"
        return f"""\
    const {self.variant.element.spelling}* {name}_from[{self.each}];
    int {name}_to[{self.each}], {name}_term[{self.each}], {name}_room[{self.each}];
    #pragma unroll
    for (int p = 0; p < {self.each}; ++p) {{
        const int {places};
        {name}_to[p] = {to};
        {name}_term[p] = term;
        {name}_room[p] = {room};
        {name}_from[p] = {name} + {begin};
    }}
"""

    @property
    def size(self) -> str:
        """The name of the operand's size along its rows or columns."""
        return "m" if self.side == "row" else "n"

    def fetch(self, target: str) -> str:
        """Copy this thread's part of a whole stage, and go on to the next one."""
        name = self.name
        step = str(self.variant.tile.depth) if self.along_k else f"{self.variant.tile.depth} * {name}_stride"
        copy = f"st_fetch<{self.chunk}>(st_place({target}, {name}_to[p]), {name}_from[p]"
        copy += ")" if self.along_k else f", {name}_room[p])"
        return self._each(f"{copy};\n                {name}_from[p] += {step};")

    def fetch_last(self, target: str) -> str:
        """Copy what there is of a stage that k does not fill; the rest becomes zero."""
        name = self.name
        present = f"missing > {name}_term[p] ? {name}_room[p] : 0"
        if self.along_k:
            present = f"st_clamp(missing - {name}_term[p], {self.chunk})"
        return self._each(f"st_fetch<{self.chunk}>(st_place({target}, {name}_to[p]), {name}_from[p], {present});")

    def _each(self, copy: str) -> str:
        guard = "" if self.count % self.variant.threads == 0 else (
            f"                if (thread + p * {self.variant.threads} >= {self.count}) break;\n"
        )  # fmt: skip
        return f"""\
            #pragma unroll
            for (int p = 0; p < {self.each}; ++p) {{
{guard}                {copy}
            }}
"""


class _Compute:
    """The multiplications of a stage by ordinary arithmetic: each thread has thread_rows x thread_columns results."""

    functions = ""

    def __init__(self, variant: Variant, a: _Operand, b: _Operand) -> None:
        self.variant, self.a, self.b = variant, a, b
        tile = variant.tile
        self.down, self.across = tile.rows // tile.thread_rows, tile.columns // tile.thread_columns

    @property
    def places(self) -> str:
        """Which results are this thread's. A warp has 4 x 8 of them (or two slices 4 x 4 each)."""
        group = self.variant.tile.group
        lines = [f"const int slice = thread / {group}, member = thread % {group};"]
        if group < 32:
            lines.append("const int y = member % 2 + member / 8 * 2, x = member / 2 % 4;")
        else:
            warps = self.across // 8
            lines += [
                "const int lane = member % 32, warp = member / 32;",
                f"const int y = warp / {warps} * 4 + lane % 2 + lane / 16 * 2, x = warp % {warps} * 8 + lane / 2 % 8;",
            ]
        lines.append(f"const int left_at = {self._start(self.a, 'y')}, right_at = {self._start(self.b, 'x')};")
        return "\n".join(f"    {line}" for line in lines)

    def _start(self, operand: _Operand, place: str) -> str:
        """Where in a stage a thread's elements begin."""
        depth, lanes = self.variant.tile.depth // self.variant.tile.slices, self.variant.element.lanes
        if operand.along_k:
            return f"{place} * {operand.line} + slice * {depth}"
        return f"slice * {depth * operand.line} + {place} * {lanes}"

    @property
    def declare(self) -> str:
        """The sums."""
        tile = self.variant.tile
        return f"    {self.variant.element.spelling} sum[{tile.thread_rows}][{tile.thread_columns}] = {{}};"

    @property
    def multiply(self) -> str:
        tile, element = self.variant.tile, self.variant.element
        depth, lanes = tile.depth // tile.slices, element.lanes
        left = _fragment(self.a, "left", self.down, lanes)
        right = _fragment(self.b, "right", self.across, lanes)
        return f"""\
        #pragma unroll
        for (int term = 0; term < {depth}; term += {lanes}) {{
            {element.spelling} u[{tile.thread_rows}][{lanes}], v[{tile.thread_columns}][{lanes}];
{left.format("u")}{right.format("v")}            #pragma unroll
            for (int t = 0; t < {lanes}; ++t)
                #pragma unroll
                for (int i = 0; i < {tile.thread_rows}; ++i)
                    #pragma unroll
                    for (int j = 0; j < {tile.thread_columns}; ++j) st_multiply(sum[i][j], u[i][t], v[j][t]);
        }}
"""

    @property
    def positions(self) -> tuple[str, str, str, str]:
        tile, lanes = self.variant.tile, self.variant.element.lanes
        loops = (
            f"#pragma unroll\n    for (int p = 0; p < {tile.thread_rows * tile.thread_columns}; ++p) {{\n"
            f"        const int i = p / {tile.thread_columns}, j = p % {tile.thread_columns};"
        )
        row = _line(self.a.along_k, "y", "i", self.down, lanes)
        column = _line(self.b.along_k, "x", "j", self.across, lanes)
        return loops, row, column, "sum[i][j]"


def _line(along_k: bool, place: str, number: str, places: int, lanes: int) -> str:
    """The row (or column) of a thread's results number ``number``: as its elements can be read together."""
    if along_k:
        return f"{place} + {number} * {places}"
    return f"{number} / {lanes} * {places * lanes} + {place} * {lanes} + {number} % {lanes}"


def _fragment(operand: _Operand, memory: str, places: int, lanes: int) -> str:
    """Read a thread's elements for ``lanes`` terms, 16 bytes at a time, into an array named later."""
    if operand.along_k:
        return f"""\
            #pragma unroll
            for (int i = 0; i < {operand.per_thread}; ++i)
                st_read({{0}}[i], {memory} + i * {places * operand.line} + term);
"""
    return f"""\
            #pragma unroll
            for (int t = 0; t < {lanes}; ++t)
                #pragma unroll
                for (int i = 0; i < {operand.per_thread}; i += {lanes})
                    st_read_lines({{0}}, i, t, {memory} + (term + t) * {operand.line} + i * {places});
"""
