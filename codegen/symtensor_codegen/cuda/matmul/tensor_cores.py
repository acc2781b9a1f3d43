"""The multiplications of a stage by tensor cores: operands rounded to tf32, bfloat16 or float16, sums in float32.

A warp has ``thread_rows`` x ``thread_columns`` results, in fragments of 16 x 8 as `mma.sync` wants them ("Matrix
Fragments for mma.m16n8k8" and "m16n8k16" in NVIDIA's PTX manual): of a fragment's lanes, a quarter's number is the row
or column, and the number inside a quarter counts terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symtensor_codegen.cuda.matmul.operands import Operand
    from symtensor_codegen.cuda.matmul.variants import Variant

__all__ = ["TERMS", "Compute", "padding"]

TERMS = {"tf32": 8, "bfloat16": 16, "float16": 16}
"""Terms of one instruction."""


def padding(precision: str, along_k: bool) -> int:
    """Words between the lines of an operand in shared memory that keep a warp's reads in different banks.

    Along k, lanes read words 4 row + term (tf32) or pairs 8 row + 2 term; otherwise rows 8 term + row.
    """
    return 4 if along_k and precision == "tf32" else 8


class Compute:
    """The text of tensor-core arithmetic, in the places where `matmul_kernels` has that of ordinary arithmetic."""

    def __init__(self, variant: Variant, a: Operand, b: Operand) -> None:
        self.variant, self.a, self.b = variant, a, b
        self.terms = TERMS[variant.precision]

    @property
    def functions(self) -> str:
        """The instruction, and how two float32 become one operand of it."""
        precision = self.variant.precision
        name = {"tf32": "tf32", "bfloat16": "bf16", "float16": "f16"}[precision]
        inline = "static __device__ __forceinline__"
        if precision == "tf32":
            convert = f"""\
{inline} u32 st_operand(const f32* from) {{
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(*from));
    return y;
}}
"""
        else:
            convert = f"""\
{inline} u32 st_operand(const f32* from, int step) {{
    u32 y;
    asm("cvt.rn.{name}x2.f32 %0, %1, %2;" : "=r"(y) : "f"(from[step]), "f"(from[0]));
    return y;
}}
"""
        shape = f"m16n8k{self.terms}"
        return f"""\
#ifndef ST_HOST
{convert}{inline} void st_mma(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {{
    asm("mma.sync.aligned.{shape}.row.col.f32.{name}.{name}.f32 {{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, "
        "{{%0, %1, %2, %3}};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}}
#endif
"""

    @property
    def places(self) -> str:
        """Which results are this warp's, and which terms and lines this lane reads."""
        tile = self.variant.tile
        across = tile.columns // tile.thread_columns
        return f"""\
    const int lane = thread % 32, warp = thread / 32 % {tile.group}, slice = thread / {32 * tile.group};
    const int y = warp / {across} * {tile.thread_rows} + lane / 4;
    const int x = warp % {across} * {tile.thread_columns} + lane / 4;
    const int inner = lane % 4;
    const int left_at = {self._start(self.a, "y")}, right_at = {self._start(self.b, "x")};"""

    @property
    def _width(self) -> int:
        """Neighbouring terms in one operand of the instruction."""
        return 1 if self.variant.precision == "tf32" else 2

    def _start(self, operand: Operand, line: str) -> str:
        """Where in a stage a lane's elements begin."""
        depth = self.variant.tile.depth // self.variant.tile.slices
        term = f"slice * {depth} + inner * {self._width}"
        return f"{line} * {operand.line} + {term}" if operand.along_k else f"({term}) * {operand.line} + {line}"

    @property
    def declare(self) -> str:
        """The sums."""
        tile = self.variant.tile
        return f"    f32 sum[{tile.thread_rows // 16}][{tile.thread_columns // 8}][4] = {{}};"

    first = ""

    @property
    def multiply(self) -> str:
        """All terms of a stage that belong to this slice."""
        tile = self.variant.tile
        depth = tile.depth // tile.slices
        return f"""\
        #pragma unroll
        for (int term = 0; term < {depth}; term += {self.terms}) {{
            u32 u[{tile.thread_rows // 16}][4], v[{tile.thread_columns // 8}][2];
            #pragma unroll
            for (int i = 0; i < {tile.thread_rows // 16}; ++i)
                #pragma unroll
                for (int q = 0; q < 4; ++q) u[i][q] = {self._read(self.a, "left", "i * 16 + q % 2 * 8", "q / 2")};
            #pragma unroll
            for (int j = 0; j < {tile.thread_columns // 8}; ++j)
                #pragma unroll
                for (int q = 0; q < 2; ++q) v[j][q] = {self._read(self.b, "right", "j * 8", "q")};
            #pragma unroll
            for (int i = 0; i < {tile.thread_rows // 16}; ++i)
                #pragma unroll
                for (int j = 0; j < {tile.thread_columns // 8}; ++j) st_mma(sum[i][j], u[i], v[j]);
        }}
"""

    def _read(self, operand: Operand, memory: str, line: str, half: str) -> str:
        """The operand of one register: one term (tf32), or two neighbouring ones, of the first or the second half."""
        term = f"(term + {half} * {self.terms // 2})"
        if operand.along_k:
            place, step = f"({line}) * {operand.line} + {term}", 1
        else:
            place, step = f"{term} * {operand.line} + {line}", operand.line
        return f"st_operand({memory} + {place}{'' if self._width == 1 else f', {step}'})"

    @property
    def positions(self) -> tuple[str, str, str, str]:
        """The loop over this lane's sums, and each one's row, column and name."""
        tile = self.variant.tile
        across = tile.thread_columns // 8
        loops = (
            f"#pragma unroll\n    for (int p = 0; p < {tile.thread_rows // 16 * across * 4}; ++p) {{\n"
            f"        const int i = p / {across * 4}, j = p / 4 % {across}, q = p % 4;"
        )
        return loops, "y + i * 16 + q / 2 * 8", "x - lane / 4 + j * 8 + inner * 2 + q % 2", "sum[i][j][q]"
