"""Matrix products as CUDA text: tiles in shared memory, blocks of results in registers.

A block of threads computes one tile of the product. It goes through k in stages: while it multiplies one stage, the
following ones are copied from global to shared memory. Where tiles are small, the threads form several *slices* that
share the depth of every stage; each slice has sums of its own for the whole tile, and they are added at the end in a
fixed order. So a product of few elements and many terms keeps many threads busy in one launch.

Both operands may lie either way round. One whose neighbours lie along k is kept so in shared memory (a thread then
reads several terms of one row at once), one whose neighbours lie along its rows or columns too (a thread reads several
rows of one term): nothing is transposed on the way.

A long k may besides be *split* among blocks. Up to eight of them form a cluster, where devices have these (from
sm_90 on): each gives its sums to the blocks that store them, and everything is one launch. Otherwise each leaves its
sums in scratch memory, and a second kernel (``combine_text``) adds them. The order of additions is fixed.
"""

from __future__ import annotations

from typing import Final

from symtensor_codegen.cuda.matmul import tensor_cores as tensor_cores
from symtensor_codegen.cuda.matmul.functions import CLUSTERS, COPIES, arithmetic
from symtensor_codegen.cuda.matmul.operands import Operand
from symtensor_codegen.cuda.matmul.variants import NO_EPILOGUE, Element, Epilogue, Variant
from symtensor_codegen.cuda.schedules.launch_numbers import SHARED_LIMIT
from symtensor_codegen.cuda.text.prelude import TYPES

__all__ = ["combine_text", "matmul_text", "memory_of"]

_MOST_EARLY: Final = 16  # results of a thread for which it can read ahead


def memory_of(variant: Variant) -> tuple[int, int]:
    """The elements of a block's shared memory, and of them those that other blocks of the cluster write, at the end."""
    tile = variant.tile
    a, b = _operands(variant)
    area = tile.rows * tile.columns
    used = max((a.elements + b.elements) * tile.stages, tile.slices * area if tile.slices > 1 else 0)
    received = area if variant.cluster > 1 else 0
    return used + received, received


def _operands(variant: Variant) -> tuple[Operand, Operand]:
    tile = variant.tile
    return (
        Operand(variant, "a", "row", tile.rows, tile.thread_rows, variant.a_along_k, variant.a_chunk),
        Operand(variant, "b", "column", tile.columns, tile.thread_columns, variant.b_along_k, variant.b_chunk),
    )


def matmul_text(variant: Variant) -> str:
    """The whole text of a product's kernel, named ``variant.symbol``."""
    element, tile = variant.element, variant.tile
    a, b = _operands(variant)
    stage = a.elements + b.elements
    memory, received = memory_of(variant)
    assert memory * element.size <= SHARED_LIMIT, f"{variant.symbol}: {memory * element.size} bytes"
    extra, functions = variant.epilogue.arguments(element), variant.epilogue.functions
    compute = tensor_cores.Compute(variant, a, b) if variant.uses_tensor_cores else _Compute(variant, a, b)
    spelling, clustered, folded = element.spelling, variant.cluster > 1, variant.folded
    several = f"__cluster_dims__(1, {variant.cluster}, 1) " if clustered and not folded else ""
    last, back = tile.stages - 1, (1 - tile.stages) * stage
    return f"""\
{TYPES}{arithmetic(element)}{COPIES}{CLUSTERS if clustered else ""}{compute.functions}{functions}
extern "C" {several}__global__ void __launch_bounds__({variant.launched}, 1) {variant.symbol}(
    const {spelling}* __restrict__ a, const {spelling}* __restrict__ b, {spelling}* __restrict__ out,
    i64 m, i64 n, i64 k, i64 a_stride, i64 b_stride, i64 out_stride, i64 a_batch, i64 b_batch, i64 out_batch,
    i64 depth, f64 alpha, f64 beta{extra}) {{
    __shared__ st_pack memory[{memory * element.size // 16 * (variant.cluster if folded else 1)}];
{_who(variant, memory, received)}
{compute.places}
    const u32 across = (u32)((n + {tile.columns - 1}) / {tile.columns});
    const i64 row0 = blockIdx.x / across * {tile.rows}ll, column0 = blockIdx.x % across * {tile.columns}ll;
    const i64 first = {"rank" if clustered else "blockIdx.y"} * depth, terms = first + depth < k ? depth : k - first;
    const int stages = terms > 0 ? (int)((terms + {tile.depth - 1}) / {tile.depth}) : 0;
    a += blockIdx.z * a_batch;
    b += blockIdx.z * b_batch;

    // What this thread copies of each stage: from where, and to where.
{a.declare}{b.declare}
    // The stages form a ring. Places in it are kept as addresses, which are expensive to compute.
    int missing = (int)terms, put_number = 0, get_number = 0;
    auto put = st_place(shared, 0);
    const {spelling}* get = shared;
    const auto fetch = [&]() {{
        if (missing >= {tile.depth}) {{
{a.fetch("put")}{b.fetch(f"st_place(put, {a.elements})")}        }} else {{  // the last terms, and zeros
{a.fetch_last("put")}{b.fetch_last(f"st_place(put, {a.elements})")}        }}
        missing -= {tile.depth};
        put = st_place(put, put_number == {last} ? {back} : {stage});
        put_number = put_number == {last} ? 0 : put_number + 1;
    }};
{compute.declare}
    #pragma unroll 1
    for (int stage = {-last}; stage < {f"(int)(depth / {tile.depth})" if folded else "stages"}; ++stage) {{
        const {spelling}* const left = get + left_at;
        const {spelling}* const right = get + {a.elements} + right_at;
        if (stage >= 0) {{  // before the first one only copies are begun
            st_wait<{last - 1}>();
            __syncthreads();{" if (stage >= stages) continue;" if folded else ""}
{compute.first}        }}
        if (missing > 0) fetch();
        st_commit();
        if (stage < 0) continue;
{compute.multiply}        get += get_number == {last} ? {back} : {stage};
        get_number = get_number == {last} ? 0 : get_number + 1;
    }}

{_store(variant, compute.positions)}}}
"""


def _who(variant: Variant, memory: int, received: int) -> str:
    """Which thread this is, of which block of a cluster, and where the block's memory is."""
    spelling, threads = variant.element.spelling, variant.threads
    thread, rank = (f"threadIdx.x % {threads}", f"threadIdx.x / {threads}") if variant.folded else (
        "threadIdx.x", "blockIdx.y"
    )  # fmt: skip
    shared = f"({spelling}*)memory" + (f" + rank * {memory}" if variant.folded else "")
    if variant.cluster == 1:
        return f"    {spelling}* const shared = {shared};\n    const int thread = {thread};"
    return f"""\
    const int thread = {thread}, rank = {rank};
    {spelling}* const shared = {shared};
    {spelling}* const received = shared + {memory - received};
    st_begin();"""


def combine_text(element: Element, symbol: str, epilogue: Epilogue = NO_EPILOGUE) -> str:
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


def _finish(epilogue: Epilogue, indent: str, early: str = "") -> str:
    """From a sum to memory. ``to`` is not read where beta is zero (or nothing is stored): it may hold anything.

    ``early``: where it is what the epilogue has read early.
    """
    lines = ["value = st_scale(alpha, value);"]
    lines += ["if (st_present(beta)) value = value + st_scale(beta, *to);"] if epilogue.keeps else []
    lines += [f"const {epilogue.early[0]} early = {early or epilogue.early[1]};"] if epilogue.early else []
    lines += [epilogue.text] if epilogue.text else []
    return "".join(f"{indent}{line}\n" for line in (*lines, *["*to = value;"] * epilogue.keeps))


def _store(variant: Variant, positions: tuple[str, str, str, str]) -> str:
    """The end of the kernel: the slices' sums are added, and the results stored."""
    element, tile = variant.element, variant.tile
    loops, row, column, value = positions
    area = tile.rows * tile.columns
    inside = "row < m && column < n"
    results, early, known = -(-area // variant.cluster // variant.threads), variant.epilogue.early, ""
    if early is not None and results <= _MOST_EARLY:
        known = f"early_of[{'p' if tile.slices == 1 else 'turn'}]"
    if variant.split:
        place = "out[((blockIdx.z * (i64)gridDim.y + blockIdx.y) * m + row) * n + column]"
        finish = f"            {place} = value;\n"
    else:
        finish = (
            f"            {element.spelling}* const to = out + blockIdx.z * out_batch + row * out_stride + column;\n"
            f"{_finish(variant.epilogue, '            ', known)}"
        )

    def read_early(head: str) -> str:
        """Read ahead in a loop with this head."""
        if early is None or not known:
            return ""
        return f"    {early[0]} early_of[{results}];\n{head}        if ({inside}) {known} = {early[1]};\n    }}\n"

    if tile.slices == 1:
        head = f"    {loops}\n        const i64 row = row0 + ({row}), column = column0 + ({column});\n"
        return f"""\
{read_early(head)}{head}\
        if ({inside}) {{
            {element.spelling} value = {value};
{finish}        }}
    }}
"""
    collect = f"""\
    __syncthreads();  // the last stage has been read: its memory is free for the slices' sums
    {loops}
        shared[slice * {area} + ({row}) * {tile.columns} + ({column})] = {value};
    }}
    __syncthreads();
"""
    added = _added(tile.slices, f"shared[{{}} * {area} + i]")
    if variant.cluster == 1:
        place = f"row = row0 + i / {tile.columns}, column = column0 + i % {tile.columns}"
        head = f"{_each(area, variant.threads)}\n        const i64 {place};\n"
        return f"""\
{read_early(head)}{collect}{head}\
        if ({inside}) {{
            {element.spelling} value = {added};
{finish}        }}
    }}
"""
    share, (memory, _) = area // variant.cluster, memory_of(variant)
    place = f"(received + (owner - rank) * {memory})" if variant.folded else "st_of_block(received, owner)"
    own = f"rank * {share} + i"
    head = (
        f"{_each(share, variant.threads)}\n"
        f"        const i64 row = row0 + ({own}) / {tile.columns}, column = column0 + ({own}) % {tile.columns};\n"
    )
    return f"""\
{read_early(head)}{collect}    st_wait_for_begin();  // of all blocks: their memory is written now
{_each(area, variant.threads)}
        const int owner = i / {share};  // which block stores this result
        {place}[rank * {share} + i % {share}] = {added};
    }}
    st_exchange();
{head}\
        if ({inside}) {{
            {element.spelling} value = {_added(variant.cluster, f"received[{{}} * {share} + i]")};
{finish}        }}
    }}
"""


def _each(count: int, threads: int) -> str:
    """The head of a loop in which the threads go through ``count`` elements ``i``."""
    guard = "" if count % threads == 0 else f"\n        if (i >= {count}) break;"
    return f"""\
    #pragma unroll
    for (int turn = 0; turn < {-(-count // threads)}; ++turn) {{
        const int i = thread + turn * {threads};{guard}"""


def _added(count: int, part: str) -> str:
    """The parts of a result added in pairs, pairs of pairs and so on: few additions in a row."""
    terms = [part.format(number) for number in range(count)]
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [f"({first} + {second})" for first, second in zip(terms[:half], terms[half:], strict=True)]
    return terms[0]


class _Compute:
    """The multiplications of a stage by ordinary arithmetic: each thread has thread_rows x thread_columns results."""

    functions = ""

    def __init__(self, variant: Variant, a: Operand, b: Operand) -> None:
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

    def _start(self, operand: Operand, place: str) -> str:
        """Where in a stage a thread's elements begin."""
        depth, lanes = self.variant.tile.depth // self.variant.tile.slices, self.variant.element.lanes
        if operand.along_k:
            return f"{place} * {operand.line} + slice * {depth}"
        return f"slice * {depth * operand.line} + {place} * {lanes}"

    @property
    def declare(self) -> str:
        """The sums, and what is multiplied next."""
        tile = self.variant.tile
        spelling, lanes = self.variant.element.spelling, self.variant.element.lanes
        return (
            f"    {spelling} sum[{tile.thread_rows}][{tile.thread_columns}] = {{}};\n"
            f"    {spelling} u[{tile.thread_rows}][{lanes}], v[{tile.thread_columns}][{lanes}];"
        )

    @property
    def first(self) -> str:
        """Read the first terms of a stage: further copies are begun while they are on the way."""
        return self._read("0")

    @property
    def multiply(self) -> str:
        """All terms of a stage that belong to this slice."""
        tile, lanes = self.variant.tile, self.variant.element.lanes
        depth = tile.depth // tile.slices
        following = f"            if (term > 0) {{\n{self._read('term')}            }}\n" if depth > lanes else ""
        return f"""\
        #pragma unroll
        for (int term = 0; term < {depth}; term += {lanes}) {{
{following}            #pragma unroll
            for (int t = 0; t < {lanes}; ++t)
                #pragma unroll
                for (int i = 0; i < {tile.thread_rows}; ++i)
                    #pragma unroll
                    for (int j = 0; j < {tile.thread_columns}; ++j) st_multiply(sum[i][j], u[i][t], v[j][t]);
        }}
"""

    def _read(self, term: str) -> str:
        lanes = self.variant.element.lanes
        left = _fragment(self.a, "left", self.down, lanes).format("u", term)
        return left + _fragment(self.b, "right", self.across, lanes).format("v", term)

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


def _fragment(operand: Operand, memory: str, places: int, lanes: int) -> str:
    """Read a thread's elements for ``lanes`` terms, 16 bytes at a time, into an array named later."""
    if operand.along_k:
        return f"""\
            #pragma unroll
            for (int i = 0; i < {operand.per_thread}; ++i)
                st_read({{0}}[i], {memory} + i * {places * operand.line} + {{1}});
"""
    return f"""\
            #pragma unroll
            for (int t = 0; t < {lanes}; ++t)
                #pragma unroll
                for (int i = 0; i < {operand.per_thread}; i += {lanes})
                    st_read_lines({{0}}, i, t, {memory} + ({{1}} + t) * {operand.line} + i * {places});
"""
