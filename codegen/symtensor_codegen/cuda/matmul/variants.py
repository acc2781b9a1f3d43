"""What describes a kernel that multiplies matrices: its tile, what it does with results, and the variants of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from symtensor_codegen.cuda.matmul.functions import ELEMENTS, Element

__all__ = ["ELEMENTS", "NO_EPILOGUE", "PRECISIONS", "Element", "Epilogue", "Tile", "Variant"]

PRECISIONS: Final = ("float32", "tf32", "bfloat16", "float16")


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
    the kernel. Without ``keeps`` nothing is stored but what the statements store. ``early`` is what they read besides,
    a type and an expression over ``row`` and ``column``, and is called so in them: a thread reads it for all of its
    results before it stores one.
    """

    text: str = ""
    pointers: tuple[str, ...] = ()
    parameters: str = ""
    functions: str = ""
    name: str = ""
    keeps: bool = True
    early: tuple[str, str] | None = None

    def arguments(self, element: Element) -> str:
        """The further arguments of a kernel, each after a comma."""
        return "".join(f", const {element.spelling}* __restrict__ {name}" for name in self.pointers) + self.parameters


NO_EPILOGUE: Final = Epilogue()


@dataclass(frozen=True, slots=True)
class Variant:
    """One kernel. ``a_along_k``: the neighbours of an element of ``a`` in memory are further terms, not further rows.

    ``a_chunk`` and ``b_chunk`` are the elements copied at once, as many as both operand's alignments allow.
    ``cluster``: among how many blocks of a cluster k is split; ``folded``: for devices of the host, which have no
    clusters, they are one block of as many times the threads.
    """

    element: Element
    tile: Tile
    a_along_k: bool
    b_along_k: bool
    a_chunk: int
    b_chunk: int
    precision: str = "float32"
    split: bool = False
    epilogue: Epilogue = NO_EPILOGUE
    cluster: int = 1
    folded: bool = False

    @property
    def uses_tensor_cores(self) -> bool:
        """Whether operands are rounded and multiplied by tensor cores."""
        return self.precision != "float32"

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.tile.group * self.tile.slices * (32 if self.uses_tensor_cores else 1)

    @property
    def launched(self) -> int:
        """Threads of a block as it is launched."""
        return self.threads * (self.cluster if self.folded else 1)

    @property
    def symbol(self) -> str:
        """A name that tells what the kernel is for."""
        tile, layouts = self.tile, f"{'rc'[not self.a_along_k]}{'rc'[self.b_along_k]}"
        kind = self.precision if self.uses_tensor_cores else self.element.spelling
        parts = f"{tile.rows}x{tile.columns}x{tile.depth}_{tile.thread_rows}x{tile.thread_columns}x{tile.slices}"
        how = "_split" if self.split else f"_by{self.cluster}{'_folded' * self.folded}" if self.cluster > 1 else ""
        end = f"{how}{'_' if self.epilogue.name else ''}{self.epilogue.name}"
        return f"matmul_{kind}_{layouts}_{parts}_{self.a_chunk}{self.b_chunk}{end}"
