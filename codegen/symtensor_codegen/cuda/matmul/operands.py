"""How the operands of a matrix product get into shared memory: text for `matmul_kernels`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from symtensor_codegen.cuda.matmul import tensor_cores as tensor_cores

if TYPE_CHECKING:
    from symtensor_codegen.cuda.matmul.variants import Variant

__all__ = ["Operand"]


class Operand:
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
