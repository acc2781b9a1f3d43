"""Products with a matrix that is laid out once and used many times: small matrices times a constant, in a loop.

BLAS copies its right operand into panels at every call, which for a few rows costs as much as the product. Here the
copy is a call of its own (``st_pack_columns``), made before the loop; the product runs over panels of some columns,
and inside over blocks of rows whose results stay in registers (Goto and van de Geijn, 2008: Anatomy of
high-performance matrix multiplication). ``st_panels`` has the signature of a kernel over panels, so several threads
may share one product.

All functions are LLVM IR written for the target, compiled when first needed and kept in the cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from symtensor_codegen.dtypes import DType
from symtensor_codegen.llvm.target import Target

LETTERS = {"float32": "s", "float64": "d"}
ARGUMENTS = ("out", "out_stride", "left", "panels", "m", "n", "k", "accumulate")  # words of st_panels


class Tile(NamedTuple):
    """Blocks of results in registers: of one of ``heights`` rows, each of ``vectors`` vectors of ``width`` elements."""

    heights: tuple[int, ...]
    vectors: int
    width: int

    @property
    def columns(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.width


def tile(target: Target, dtype: DType) -> Tile | None:
    """The block for a target; None where products are left to BLAS (no fused multiply-add in vectors)."""
    if dtype.name not in LETTERS:
        return None
    if not target.masked_loads and not target.triple.startswith("aarch64"):
        return None
    registers = 32 if target.vector_bits == 512 or target.triple.startswith("aarch64") else 16
    heights = (12, 8, 4, 2, 1) if registers == 32 else (6, 4, 2, 1)
    return Tile(heights, 2, target.vector_bits // dtype.bits)


def text(target: Target, dtype: DType) -> str:
    """The LLVM IR of the functions for an element type."""
    block = tile(target, dtype)
    assert block is not None
    writer = _Writer(block, "float" if dtype.bits == 32 else "double", LETTERS[dtype.name], dtype.itemsize)
    return writer.module()


class _Writer:
    def __init__(self, block: Tile, element: str, letter: str, itemsize: int) -> None:
        self.block, self.e, self.letter, self.itemsize = block, element, letter, itemsize
        self.v = f"<{block.width} x {element}>"
        self.mask = f"<{block.width} x i1>"
        self.suffix = f"v{block.width}f{itemsize * 8}"

    def module(self) -> str:
        parts = [
            f"declare {self.v} @llvm.fma.{self.suffix}({self.v}, {self.v}, {self.v})",
            f"declare void @llvm.masked.store.{self.suffix}.p0({self.v}, ptr, i32, {self.mask})",
            f"declare {self.v} @llvm.masked.load.{self.suffix}.p0(ptr, i32, {self.mask}, {self.v})",
            f"declare {self.v} @llvm.masked.gather.{self.suffix}.v{self.block.width}p0("
            f"<{self.block.width} x ptr>, i32, {self.mask}, {self.v})",
            self.pack_columns(),
            self.pack_rows(),
            *[self.micro(count) for count in self.block.heights],
            self.panels(),
        ]
        return "\n\n".join(parts) + "\n"

    def pack_columns(self) -> str:
        """Lay a k x n matrix out as panels: of each, all rows of its columns, with zeros for what is missing."""
        e, v, w, c = self.e, self.v, self.block.width, self.block.columns
        lines = [
            f"define void @st_pack_columns_{self.letter}(ptr %to, ptr %b, i64 %down, i64 %right, i64 %k, i64 %n) "
            "nounwind {",
            "entry:",
            "  %plain = icmp eq i64 %right, 1",
            *self._all("steps", "%right"),
            "  br label %panel",
            "panel:",
            "  %j0 = phi i64 [ 0, %entry ], [ %j0.next, %panel.end ]",
            "  %more = icmp slt i64 %j0, %n",
            "  br i1 %more, label %columns, label %done",
            "columns:",
            "  %rest = sub i64 %n, %j0",
            *self._all("end", "%rest"),
        ]
        for j in range(self.block.vectors):
            lanes = self._lanes(j * w)
            lines.append(f"  %mask{j} = icmp slt <{w} x i64> {lanes}, %end.all")
            lines.append(f"  %apart{j} = mul <{w} x i64> {lanes}, %steps.all")
        lines += [
            "  %from.offset = mul i64 %j0, %right",
            f"  %from = getelementptr {e}, ptr %b, i64 %from.offset",
            "  %base.offset = mul i64 %j0, %k",
            f"  %into = getelementptr {e}, ptr %to, i64 %base.offset",
            "  br label %row",
            "row:",
            "  %i = phi i64 [ 0, %columns ], [ %i.next, %write ]",
            "  %source = phi ptr [ %from, %columns ], [ %source.next, %write ]",
            "  %target = phi ptr [ %into, %columns ], [ %target.next, %write ]",
            "  %rows = icmp slt i64 %i, %k",
            "  br i1 %rows, label %row.body, label %panel.end",
            "row.body:",
            "  br i1 %plain, label %near, label %far",
            "near:",
        ]
        for j in range(self.block.vectors):
            lines.append(f"  %near{j}.at = getelementptr {e}, ptr %source, i64 {j * w}")
            lines.append(
                f"  %near{j} = call {v} @llvm.masked.load.{self.suffix}.p0(ptr %near{j}.at, i32 {self.itemsize}, "
                f"{self.mask} %mask{j}, {v} zeroinitializer)"
            )
        lines += ["  br label %write", "far:"]
        for j in range(self.block.vectors):
            lines.append(f"  %far{j}.at = getelementptr {e}, ptr %source, <{w} x i64> %apart{j}")
            lines.append(
                f"  %far{j} = call {v} @llvm.masked.gather.{self.suffix}.v{w}p0(<{w} x ptr> %far{j}.at, "
                f"i32 {self.itemsize}, {self.mask} %mask{j}, {v} zeroinitializer)"
            )
        lines += ["  br label %write", "write:"]
        for j in range(self.block.vectors):
            lines.append(f"  %x{j} = phi {v} [ %near{j}, %near ], [ %far{j}, %far ]")
        for j in range(self.block.vectors):
            lines.append(f"  %x{j}.at = getelementptr {e}, ptr %target, i64 {j * w}")
            lines.append(f"  store {v} %x{j}, ptr %x{j}.at, align {self.itemsize}")
        lines += [
            f"  %source.next = getelementptr {e}, ptr %source, i64 %down",
            f"  %target.next = getelementptr {e}, ptr %target, i64 {c}",
            "  %i.next = add nuw i64 %i, 1",
            "  br label %row",
            "panel.end:",
            f"  %j0.next = add nuw i64 %j0, {c}",
            "  br label %panel",
            "done:",
            "  ret void",
            "}",
        ]
        return "\n".join(lines)

    def _all(self, name: str, value: str) -> list[str]:
        """``value`` in all lanes."""
        w = self.block.width
        return [
            f"  %{name}.one = insertelement <{w} x i64> poison, i64 {value}, i64 0",
            f"  %{name}.all = shufflevector <{w} x i64> %{name}.one, <{w} x i64> poison, <{w} x i32> zeroinitializer",
        ]

    def _lanes(self, first: int) -> str:
        return "<" + ", ".join(f"i64 {first + k}" for k in range(self.block.width)) + ">"

    def _height(self) -> list[str]:
        """The rows of the next block, of those that are left (``%remaining``)."""
        heights = self.block.heights
        lines = [f"  %height{len(heights) - 1} = add i64 0, {heights[-1]}"]
        for k in range(len(heights) - 2, -1, -1):
            lines.append(f"  %fits{k} = icmp sge i64 %remaining, {heights[k]}")
            lines.append(f"  %height{k} = select i1 %fits{k}, i64 {heights[k]}, i64 %height{k + 1}")
        return lines

    def pack_rows(self) -> str:
        """Lay an m x k matrix out as blocks of rows: of each, all columns of its rows."""
        e = self.e
        lines = [
            f"define void @st_pack_rows_{self.letter}(ptr %to, ptr %a, i64 %down, i64 %right, i64 %m, i64 %k) "
            "nounwind {",
            "entry:",
            "  br label %block",
            "block:",
            "  %begin = phi i64 [ 0, %entry ], [ %begin.next, %block.end ]",
            "  %remaining = sub i64 %m, %begin",
            "  %more = icmp sgt i64 %remaining, 0",
            "  br i1 %more, label %block.body, label %done",
            "block.body:",
            *self._height(),
            "  %base.offset = mul i64 %begin, %k",
            f"  %base = getelementptr {e}, ptr %to, i64 %base.offset",
            "  br label %row",
            "row:",
            "  %r = phi i64 [ 0, %block.body ], [ %r.next, %row.end ]",
            "  %rows = icmp slt i64 %r, %height0",
            "  br i1 %rows, label %row.body, label %block.end",
            "row.body:",
            "  %line = add i64 %begin, %r",
            "  %line.offset = mul i64 %line, %down",
            f"  %from = getelementptr {e}, ptr %a, i64 %line.offset",
            f"  %into = getelementptr {e}, ptr %base, i64 %r",
            "  br label %column",
            "column:",
            "  %i = phi i64 [ 0, %row.body ], [ %i.next, %column.body ]",
            "  %source = phi ptr [ %from, %row.body ], [ %source.next, %column.body ]",
            "  %target = phi ptr [ %into, %row.body ], [ %target.next, %column.body ]",
            "  %columns = icmp slt i64 %i, %k",
            "  br i1 %columns, label %column.body, label %row.end",
            "column.body:",
            f"  %value = load {e}, ptr %source",
            f"  store {e} %value, ptr %target",
            f"  %source.next = getelementptr {e}, ptr %source, i64 %right",
            f"  %target.next = getelementptr {e}, ptr %target, i64 %height0",
            "  %i.next = add nuw i64 %i, 1",
            "  br label %column",
            "row.end:",
            "  %r.next = add nuw i64 %r, 1",
            "  br label %row",
            "block.end:",
            "  %begin.next = add nuw i64 %begin, %height0",
            "  br label %block",
            "done:",
            "  ret void",
            "}",
        ]
        return "\n".join(lines)

    def micro(self, rows: int) -> str:
        """``rows`` rows of one panel: the sums stay in registers over all of k."""
        e, v, w, vectors = self.e, self.v, self.block.width, self.block.vectors
        cells = [(r, j) for r in range(rows) for j in range(vectors)]
        lines = [
            f"define internal void @rows_{self.letter}_{rows}(ptr %out, i64 %stride, ptr %a, ptr %b, i64 %k, "
            + ", ".join(f"{self.mask} %mask{j}" for j in range(vectors))
            + ", i1 %accumulate) nounwind {",
            "entry:",
            "  %some = icmp sgt i64 %k, 0",
            "  br i1 %some, label %loop, label %finish",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]",
            "  %a.at = phi ptr [ %a, %entry ], [ %a.next, %loop ]",
            "  %b.at = phi ptr [ %b, %entry ], [ %b.next, %loop ]",
        ]
        lines += [f"  %s{r}.{j} = phi {v} [ zeroinitializer, %entry ], [ %t{r}.{j}, %loop ]" for r, j in cells]
        for j in range(vectors):
            lines.append(f"  %b{j}.at = getelementptr {e}, ptr %b.at, i64 {j * w}")
            lines.append(f"  %b{j} = load {v}, ptr %b{j}.at, align {self.itemsize}")
        for r in range(rows):
            lines.append(f"  %a{r}.at = getelementptr {e}, ptr %a.at, i64 {r}")
            lines.append(f"  %a{r} = load {e}, ptr %a{r}.at")
            lines.append(f"  %a{r}.one = insertelement {v} poison, {e} %a{r}, i64 0")
            lines.append(
                f"  %a{r}.all = shufflevector {v} %a{r}.one, {v} poison, <{w} x i32> zeroinitializer"
            )
            for j in range(vectors):
                lines.append(
                    f"  %t{r}.{j} = call {v} @llvm.fma.{self.suffix}({v} %a{r}.all, {v} %b{j}, {v} %s{r}.{j})"
                )
        lines += [
            f"  %a.next = getelementptr {e}, ptr %a.at, i64 {rows}",
            f"  %b.next = getelementptr {e}, ptr %b.at, i64 {self.block.columns}",
            "  %i.next = add nuw i64 %i, 1",
            "  %again = icmp slt i64 %i.next, %k",
            "  br i1 %again, label %loop, label %finish",
            "finish:",
        ]
        lines += [f"  %f{r}.{j} = phi {v} [ zeroinitializer, %entry ], [ %t{r}.{j}, %loop ]" for r, j in cells]
        lines.append("  br i1 %accumulate, label %add, label %write")
        lines.append("add:")
        for r, j in cells:
            lines += self._place("p", r, j)
            lines.append(
                f"  %o{r}.{j} = call {v} @llvm.masked.load.{self.suffix}.p0(ptr %p{r}.{j}, i32 {self.itemsize}, "
                f"{self.mask} %mask{j}, {v} zeroinitializer)"
            )
            lines.append(f"  %g{r}.{j} = fadd {v} %f{r}.{j}, %o{r}.{j}")
        lines += ["  br label %write", "write:"]
        lines += [f"  %h{r}.{j} = phi {v} [ %f{r}.{j}, %finish ], [ %g{r}.{j}, %add ]" for r, j in cells]
        for r, j in cells:
            lines += self._place("q", r, j)
            lines.append(
                f"  call void @llvm.masked.store.{self.suffix}.p0({v} %h{r}.{j}, ptr %q{r}.{j}, i32 {self.itemsize}, "
                f"{self.mask} %mask{j})"
            )
        lines += ["  ret void", "}"]
        return "\n".join(lines)

    def _place(self, name: str, row: int, vector: int) -> list[str]:
        return [
            f"  %{name}{row}.{vector}.row = mul i64 %stride, {row}",
            f"  %{name}{row}.{vector}.at = add i64 %{name}{row}.{vector}.row, {vector * self.block.width}",
            f"  %{name}{row}.{vector} = getelementptr {self.e}, ptr %out, i64 %{name}{row}.{vector}.at",
        ]

    def panels(self) -> str:
        """The product for panels ``lo`` to ``hi - 1``."""
        e, w, c = self.e, self.block.width, self.block.columns
        lines = [
            f"define i64 @st_panels_{self.letter}(i64 %lo, i64 %hi, ptr %args) nounwind {{",
            "entry:",
        ]
        for position, name in enumerate(ARGUMENTS):
            kind = "ptr" if name in ("out", "left", "panels") else "i64"
            lines.append(f"  %{name}.at = getelementptr i64, ptr %args, i64 {position}")
            lines.append(f"  %{name} = load {kind}, ptr %{name}.at")
        lines += [
            "  %adds = icmp ne i64 %accumulate, 0",
            "  br label %panel",
            "panel:",
            "  %p = phi i64 [ %lo, %entry ], [ %p.next, %panel.end ]",
            "  %more = icmp slt i64 %p, %hi",
            "  br i1 %more, label %panel.body, label %done",
            "panel.body:",
            f"  %j0 = mul i64 %p, {c}",
            "  %rest = sub i64 %n, %j0",
            "  %b.offset = mul i64 %j0, %k",
            f"  %b = getelementptr {e}, ptr %panels, i64 %b.offset",
            *self._all("end", "%rest"),
        ]
        for j in range(self.block.vectors):
            lines.append(f"  %mask{j} = icmp slt <{w} x i64> {self._lanes(j * w)}, %end.all")
        masks = ", ".join(f"{self.mask} %mask{j}" for j in range(self.block.vectors))
        heights = self.block.heights
        lines += [
            "  br label %block",
            "block:",
            "  %begin = phi i64 [ 0, %panel.body ], [ %begin.next, %block.end ]",
            "  %remaining = sub i64 %m, %begin",
            "  %some = icmp sgt i64 %remaining, 0",
            "  br i1 %some, label %block.body, label %panel.end",
            "block.body:",
            *self._height(),
            "  %a.offset = mul i64 %begin, %k",
            f"  %a = getelementptr {e}, ptr %left, i64 %a.offset",
            "  %row.offset = mul i64 %begin, %out_stride",
            "  %out.offset = add i64 %row.offset, %j0",
            f"  %to = getelementptr {e}, ptr %out, i64 %out.offset",
            f"  switch i64 %height0, label %rows{heights[-1]} ["
            + " ".join(f"i64 {count}, label %rows{count}" for count in heights[:-1])
            + " ]",
        ]
        for count in heights:
            lines += [
                f"rows{count}:",
                f"  call void @rows_{self.letter}_{count}(ptr %to, i64 %out_stride, ptr %a, ptr %b, i64 %k, {masks}, "
                "i1 %adds)",
                "  br label %block.end",
            ]
        lines += [
            "block.end:",
            "  %begin.next = add nuw i64 %begin, %height0",
            "  br label %block",
            "panel.end:",
            "  %p.next = add nuw i64 %p, 1",
            "  br label %panel",
            "done:",
            "  ret i64 0",
            "}",
        ]
        return "\n".join(lines)


@cache
def _library(name: str) -> Any:
    from symtensor_codegen import cache as stored
    from symtensor_codegen import dtypes
    from symtensor_codegen.llvm.jit import compile_ir, load
    from symtensor_codegen.llvm.target import fingerprint, host

    source = text(host(), dtypes.of(name))
    key = stored.key(source, fingerprint(), "panels")
    code = stored.get(key)
    if code is None:
        code = compile_ir(source)
        stored.put(key, code)
    letter = LETTERS[name]
    return load(code, {}, [f"{function}_{letter}" for function in FUNCTIONS])


FUNCTIONS = ("st_pack_columns", "st_pack_rows", "st_panels")


def address(symbol: str) -> int:
    """The address of one of the functions, by its symbol."""
    name = next(name for name, letter in LETTERS.items() if symbol.endswith(f"_{letter}"))
    return int(_library(name).address(symbol))
