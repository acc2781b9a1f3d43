"""Nests of independent loops, each on an axis of the grid; in tiles where an array is read across its rows."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from symtensor_codegen.cuda.schedules.tiles import ITEMS, LEAST_TILE, ROUNDS, THREADS, Tiles
from symtensor_codegen.cuda.text.loops import LoopWriter
from symtensor_codegen.cuda.text.operations import MEMORY
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.loops import For
from symtensor_codegen.scalar import Buffer, Scalar, as_int
from symtensor_codegen.substitution import product


class NestWriter(LoopWriter):
    """Writes stages of the form ``nest``."""

    def _nest(self) -> None:
        chain = self.stage.chain
        with ExitStack() as open_loops:
            for loops, axis in ((chain[:-2], "z"), (chain[-2:-1], "y")):
                open_loops.enter_context(self._along(loops, axis))
            open_loops.enter_context(self._hoisted(chain[-1], self.stage.body, None))
            thread, threads = "((i64)blockIdx.x * blockDim.x + threadIdx.x)", "(i64)gridDim.x * blockDim.x"
            end = self.held(as_int(chain[-1].extent))
            self._strided(chain[-1], self.stage.body, "0", end, thread, threads)

    @contextmanager
    def _along(self, loops: Sequence[For], axis: str) -> Iterator[None]:
        """Loops on one axis of the grid: of several, the iterations of all of them."""
        if not loops:
            yield
            return
        names = [self.names.of(loop.index, loop.index.param.name) for loop in loops]
        number = names[0] if len(loops) == 1 else self.names.fresh("outer")
        end = self.held(as_int(product([loop.extent for loop in loops])))
        start = f"(i64)blockIdx.{axis} * blockDim.{axis} + threadIdx.{axis}"
        step = f"(i64)gridDim.{axis} * blockDim.{axis}"
        with self.block(f"for (i64 {number} = {start}; {number} < {end}; {number} += {step})"):
            if len(loops) > 1:
                self.places_in(loops, names, number)
            yield

    def _in_tiles(self, tiles: Tiles) -> None:
        """The same where a block has a tile of items: what is read across rows comes by way of shared memory.

        Where there is less than a tile of them on both axes, they are items like others.
        """
        last, across = self.stage.chain[-1], tiles.across
        others = [loop for loop in self.stage.chain[:-1] if loop is not across]
        side, other, shift, thread, begin, start = map(
            self.names.fresh, ("side", "other", "shift", "thread", f"tile_{last.index.param.name}",
                               f"tile_{across.index.param.name}")
        )  # fmt: skip
        columns, rows = self.held(as_int(last.extent)), self.held(as_int(across.extent))
        with self.block(f"if ({columns} * {rows} < {LEAST_TILE})"):
            self._nest()
            self.line("return;")
        self.line(f"const int {side} = blockDim.x, {other} = {ITEMS} / {side}, {shift} = 31 - __clz({other});")
        self.line(f"const int {thread} = threadIdx.y * {side} + threadIdx.x;")
        with ExitStack() as open_loops:
            open_loops.enter_context(self._along(others, "z"))
            head = "for (i64 {0} = (i64)blockIdx.{1} * {2}; {0} < {3}; {0} += (i64)gridDim.{1} * {2})"
            open_loops.enter_context(self.block(head.format(start, "y", other, rows)))
            open_loops.enter_context(self.block(head.format(begin, "x", side, columns)))
            column, row = (self.names.of(loop.index, loop.index.param.name) for loop in (last, across))
            here, there = map(self.names.fresh, ("here", "there"))
            names: dict[tuple[Buffer, Scalar], str] = {}
            for load in tiles.loads:
                names[load] = self.names.fresh(f"{load[0].name}_tile")
                self.tiles[names[load]] = MEMORY[load[0].dtype]
            self.line("#pragma unroll")
            with self.block(f"for (int k = 0; k < {ROUNDS}; ++k)"):
                place = f"{thread} + k * {THREADS}"
                self.line(f"const int {here} = ({place}) >> {shift}, {there} = ({place}) & ({other} - 1);")
                self.line(f"const i64 {column} = {begin} + {here}, {row} = {start} + {there};")
                with self.block(f"if ({column} < {columns} && {row} < {rows})"):
                    for (buffer, at), name in names.items():
                        element = f"{self.names.of(buffer, buffer.name)}[{bare(self.value(at))}]"
                        self.line(f"{name}[{here} * ({other} + 1) + {there}] = {element};")
            self.line("__syncthreads();")
            self.line("#pragma unroll")
            with self.block(f"for (int k = 0; k < {ROUNDS}; ++k)"):
                self.line(f"const int {there} = threadIdx.y + k * blockDim.y;")
                self.line(f"const i64 {column} = {begin} + threadIdx.x, {row} = {start} + {there};")
                with self.block(f"if ({column} < {columns} && {row} < {rows})"):
                    place = f"threadIdx.x * ({other} + 1) + {there}"
                    self.elements = {load: f"{name}[{place}]" for load, name in names.items()}
                    self.statements(self.stage.body)
                    self.elements = {}
            self.line("__syncthreads();")
