"""Kernels to CUDA C: one ``__global__`` function for each stage.

All stages of a kernel take the same arguments: its buffers, scratch memory if blocks share items, its parameters,
``status``, where failed checks leave the smallest of their numbers, and ``first``, the number of this launch's first
check. A negative ``first`` stands for ``-1 - first`` and asks the kernel to do nothing when a check has failed before:
it writes into a shared variable.
"""

import re

from symtensor_codegen.cuda.compiling.compile import FULL
from symtensor_codegen.cuda.schedules.launch_numbers import LARGEST_TEAM
from symtensor_codegen.cuda.schedules.stages import Schedule
from symtensor_codegen.cuda.schedules.tiles import PLACES
from symtensor_codegen.cuda.text import prelude
from symtensor_codegen.cuda.text.columns import ColumnWriter
from symtensor_codegen.cuda.text.nests import NestWriter
from symtensor_codegen.cuda.text.scans import ScanWriter
from symtensor_codegen.cuda.text.scatters import ScatterWriter
from symtensor_codegen.cuda.text.values import Identifiers
from symtensor_codegen.loops import (
    Kernel,
)
from symtensor_codegen.scalar import (
    as_int,
)

NO_FAILURE = 0x7F7F7F7F  # what the status word holds while no check has failed


def emit_kernel(kernel: Kernel, schedule: Schedule, symbol: str, aliased: bool = False) -> str:
    """The text of a kernel's stages, functions ``symbol_0``, ``symbol_1`` ... of C linkage.

    ``aliased``: buffers that are read and written may be the same memory.
    """
    names = Identifiers()
    for buffer in kernel.buffers:
        names.of(buffer, buffer.name)
    functions: dict[str, str] = {}
    texts = []
    for position, stage in enumerate(schedule.stages):
        writer = StageWriter(kernel, schedule, stage, names, aliased)
        texts.append(writer.text(f"{symbol}_{position}"))
        functions |= writer.functions
    body = "\n".join([*functions.values(), *texts])
    called = dict.fromkeys(re.findall(r"\bst_\w+", body))  # in their order in the text, whatever the process
    helpers = prelude.functions([name for name in called if name not in functions])
    title = f"// {kernel.note}\n" if kernel.note else ""
    if any(stage.scans or stage.scatter or stage.full for stage in schedule.stages):  # many values in registers
        title = f"{FULL}{title}"
    return f"{title}{prelude.TYPES}{helpers}\n{body}"


class StageWriter(ColumnWriter, ScanWriter, ScatterWriter, NestWriter):
    """Writes one stage."""

    def text(self, symbol: str) -> str:
        """The whole function."""
        self.line(f"if (first < 0) {{ if (*status != {NO_FAILURE}) return; first = -1 - first; }}")
        match self.stage.form:
            case "map":
                self._map()
            case "nest":
                self._nest() if self.stage.tiles is None else self._in_tiles(self.stage.tiles)
            case "team":
                self._team()
            case "scatter":
                assert self.stage.scatter is not None
                self._scatter(self.stage.scatter)
            case "owned":
                self._owned()
        arguments = [self._pointer(buffer) for buffer in self.kernel.buffers]
        arguments += ["u64* scratch"] if self.scheduled.spreads else []
        arguments += [f"const i64 p{k}" for k in range(len(self.kernel.parameters))]
        listed = ", ".join([*arguments, "int* status", "int first"])
        declared = [f"    {definition}" for definition in self.definitions.values()]
        declared += [f"    __shared__ {kind} {name}[{LARGEST_TEAM}];" for (_, kind), name in self.scratch.items()]
        declared += [f"    __shared__ {kind} {name}[{PLACES}];" for name, kind in self.tiles.items()]
        body = "\n".join([*declared, *self.lines])
        note = f"// {self.kernel.name}: {self.stage.told}\n"
        resident = f", {self.stage.together}" if self.stage.together else ""
        bounds = f"__launch_bounds__({self.stage.threads}{resident})"
        return f'{note}extern "C" __global__ void {bounds} {symbol}({listed}) {{\n{body}\n}}\n'

    # Forms --------------------------------------------------------------------------------------------------------

    def _map(self) -> None:
        loop = self.stage.chain[0]
        thread, threads = "((i64)blockIdx.x * blockDim.x + threadIdx.x)", "(i64)gridDim.x * blockDim.x"
        with self._hoisted(loop, self.stage.body, None):
            self._strided(loop, self.stage.body, "0", self.held(as_int(loop.extent)), thread, threads)

    def _team(self) -> None:
        column, chain = self.stage.column, self.stage.chain
        rank, size, lane = ("y", "y", "x") if column else ("x", "x", "y")
        self.line(f"const int rank = threadIdx.{rank}, team = blockDim.{size};")
        if self.stage.source is not None and not self.stage.scans:
            self.line("if (blockIdx.y > 0) return;")
        if not chain:
            self._item(self._share_of_block())
            return
        total = self.held(as_int(self.stage.items))
        share, wide = self._share_of_block(), self.stage.packs.get(chain[-1])
        if wide is not None and self.stage.spread is not None and share is not None:
            self._wide_columns(wide, self.stage.spread, *share, total)
        if column:
            head = f"for (i64 tile = (i64)blockIdx.x * blockDim.x; tile < {total}; tile += (i64)gridDim.x * blockDim.x)"
        else:
            start = f"(i64)blockIdx.x * blockDim.{lane} + threadIdx.{lane}"
            head = f"for (i64 item = {start}; item < {total}; item += (i64)gridDim.x * blockDim.{lane})"
        with self.block(head):
            if column:  # threads beyond the last item stay with the others, and store nothing
                self.line(f"const bool active = tile + threadIdx.x < {total};")
                self.line(f"const i64 item = active ? tile + threadIdx.x : {total} - 1;")
            self._places_in_chain()
            self._item(share)

    def _item(self, share: tuple[str, str] | None) -> None:
        """What a team does for an item; ``share``: of which loop it has a share."""
        cut = self.stage.cut
        if cut is not None and share is not None:
            (self._resume if self.stage.scans else self._spread)(cut, *share)
        elif self.stage.fans:
            for number, statement in enumerate(self.stage.body):
                with self.block(f"if (gridDim.y == 1 || blockIdx.y == {number})"):
                    self._statement(statement)
        else:
            self.statements(self.stage.body)

    def _owned(self) -> None:
        if self.stage.owners:
            self.line("const u64 owners = (u64)gridDim.x * blockDim.x;")
            self.line("const u64 me = (u64)blockIdx.x * blockDim.x + threadIdx.x;")
        self.statements(self.stage.body)
