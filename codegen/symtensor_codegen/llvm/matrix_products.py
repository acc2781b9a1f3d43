"""Matrix products in host programs: calls of BLAS (CBLAS, row-major), or of ``panels`` in loops.

A right operand that is the same in all steps of a loop is laid out once, before the loop.
"""

from dataclasses import dataclass

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import BackendError
from symtensor_codegen.finish import storage
from symtensor_codegen.llvm import panels
from symtensor_codegen.llvm.host_code import HostCode, real_product
from symtensor_codegen.llvm.types import literal, typed
from symtensor_codegen.program import Gemm, Loop, Matrix
from symtensor_codegen.scalar import Buffer, Dim, as_int
from symtensor_codegen.substitution import product

_GEMM = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}
_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = 101, 111, 112  # CBLAS's enumerations


_FEW_ROWS = 192  # with more rows BLAS's own copies cost little, and its blocks fit the caches better
_ONE_THREAD = 4e6  # multiplications up to which a product is for one thread
_GRAIN = 1 << 20  # multiplications worth a thread


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Memory of a product in a loop: the right operand in panels, and room for the left one."""

    right: str
    left: str


class MatrixProducts(HostCode):
    """Writes the products of a program."""

    _prepared: dict[Gemm, _Prepared] | None = None

    def prepare_products(self, loop: Loop, written: set[Buffer]) -> None:
        """Before a loop that is in no other: lay out what its products multiply by in every step.

        ``written``: what the loop writes, under any name.
        """
        before = {storage(r.buffer): r for r in loop.rows if r.position == 0}
        own = {storage(r.buffer) for r in loop.rows} | {storage(b) for swap in loop.swaps for b in swap}
        self._prepared = {}
        for step in loop.steps:
            if not isinstance(step, Gemm) or step.batch != 1 or step.alpha != 1.0 or step.beta not in (0.0, 1.0):
                continue
            kind, buffer = step.out.buffer.dtype, storage(step.b.buffer)
            block = panels.tile(self.target, kind)
            row = before.get(buffer)
            source = storage(row.source) if row is not None else buffer
            if block is None or buffer in written or source in written or source not in self.pointers:
                continue
            if row is None and buffer in own:
                continue
            sizes = (step.b.offset, step.b.row_stride, step.b.column_stride, step.m, step.n, step.k)
            if not all(self.is_known(size) for size in sizes):
                continue
            letter = panels.LETTERS[kind.name]
            columns = (as_int(step.n) + (block.columns - 1)) // block.columns * block.columns
            right = self.allocate(product((scalar.as_dim(columns), step.k, kind.itemsize)))
            left = self.allocate(product((step.m, step.k, kind.itemsize)))
            start = self.pointer(source)
            if step.b.offset != 0:
                start = self.here.put(
                    f"getelementptr inbounds [{kind.itemsize} x i8], ptr {start}, i64 {self.size(step.b.offset)}"
                )
            name = self.declare(
                f"st_pack_columns_{letter}", f"void @st_pack_columns_{letter}(ptr, ptr, i64, i64, i64, i64)"
            )
            strides = f"i64 {self.size(step.b.row_stride)}, i64 {self.size(step.b.column_stride)}"
            self.here.do(
                f"call void @{name}(ptr {right}, ptr {start}, {strides}, i64 {self.size(step.k)}, "
                f"i64 {self.size(step.n)})"
            )
            self._prepared[step] = _Prepared(right, left)

    def _panels(self, step: Gemm, made: _Prepared) -> None:
        """The product with panels; several threads may share it."""
        kind = step.out.buffer.dtype
        letter, block = panels.LETTERS[kind.name], panels.tile(self.target, kind)
        assert block is not None
        m, n, k = (self.size(s) for s in (step.m, step.n, step.k))
        rows = self.declare(f"st_pack_rows_{letter}", f"void @st_pack_rows_{letter}(ptr, ptr, i64, i64, i64, i64)")
        strides = f"i64 {self.size(step.a.row_stride)}, i64 {self.size(step.a.column_stride)}"
        self.here.do(
            f"call void @{rows}(ptr {made.left}, ptr {self._start(step.a, '0')}, {strides}, i64 {m}, i64 {k})"
        )
        words = {
            "out": ("ptr", self._start(step.out, "0")),
            "out_stride": ("i64", self.size(step.out.row_stride)),
            "left": ("ptr", made.left), "panels": ("ptr", made.right), "m": ("i64", m), "n": ("i64", n),
            "k": ("i64", k), "accumulate": ("i64", str(int(step.beta))),
        }  # fmt: skip
        args = f"%panels{self.number()}"
        self.stack.append(f"  {args} = alloca [{len(words)} x i64], align 16")
        for position, name in enumerate(panels.ARGUMENTS):
            slot = self.here.put(f"getelementptr inbounds i64, ptr {args}, i64 {position}")
            self.here.do(f"store {words[name][0]} {words[name][1]}, ptr {slot}, align 8")
        function = self.declare(f"st_panels_{letter}", f"i64 @st_panels_{letter}(i64, i64, ptr)")
        self.declare("st_parallel_for", "i64 @st_parallel_for(ptr, ptr, i64, i64)")
        count = self.size(scalar.as_dim((as_int(step.n) + (block.columns - 1)) // block.columns))
        work = scalar.maximum(as_int(product((step.m, step.k, block.columns))), as_int(1))
        grain = self.size(scalar.as_dim(scalar.maximum(as_int(_GRAIN) // work, as_int(1))))
        self.here.put(f"call i64 @st_parallel_for(ptr @{function}, ptr {args}, i64 {count}, i64 {grain})")

    def gemm(self, step: Gemm) -> None:
        """Write a product."""
        kind = step.out.buffer.dtype
        letter = _GEMM.get(kind.name)
        if letter is None:
            raise BackendError(f"BLAS has no matrix product of {kind}")
        m, n, k = (self.size(s) for s in (step.m, step.n, step.k))
        batch = self.size(step.batch)
        made = (self._prepared or {}).get(step)
        if made is not None:
            self._sizes_of(step)
            number = self.number()
            few, many, done = f"few{number}", f"many{number}", f"multiplied{number}"
            small = self.here.put(f"icmp sle i64 {m}, {_FEW_ROWS}")
            self.here.jump(f"br i1 {small}, label %{few}, label %{many}", few)
            self._panels(step, made)
            self.here.jump(f"br label %{done}", many)
            self._one_gemm(step, letter, m, n, k, "0")
            self.here.jump(f"br label %{done}", done)
            return
        if batch == "1":
            self._one_gemm(step, letter, m, n, k, "0")
            return
        number = self.number()
        head, body, done = f"batch{number}", f"product{number}", f"batched{number}"
        position = f"%position{number}"
        self._sizes_of(step)
        before = self.here.label
        self.here.jump(f"br label %{head}", head)
        following = f"%following{number}"
        self.here.do(f"{position} = phi i64 [ 0, %{before} ], [ {following}, %{body} ]")
        more = self.here.put(f"icmp slt i64 {position}, {batch}")
        self.here.jump(f"br i1 {more}, label %{body}, label %{done}", body)
        self._one_gemm(step, letter, m, n, k, position)
        self.here.do(f"{following} = add i64 {position}, 1")
        self.here.jump(f"br label %{head}", done)

    def _sizes_of(self, step: Gemm) -> None:
        """Evaluate every size of a product where all later code can use it."""
        for matrix, columns in ((step.a, step.k), (step.b, step.n), (step.out, step.n)):
            self.size(matrix.offset)
            self.size(matrix.batch_stride)
            self.size(self._leading(matrix, columns))
        self.size(self._leading(step.a, step.m))
        self.size(self._leading(step.b, step.k))

    def _leading(self, matrix: Matrix, columns: Dim) -> Dim:
        """The leading dimension: BLAS wants it no less than the row it strides over, even of one row or none."""
        step = matrix.row_stride if matrix.column_stride == 1 else matrix.column_stride
        return scalar.as_dim(scalar.maximum(scalar.maximum(as_int(step), as_int(columns)), as_int(1)))

    def _one_gemm(self, step: Gemm, letter: str, m: str, n: str, k: str, position: str) -> None:
        kind = step.out.buffer.dtype
        real = typed(dtypes.real_of(kind), 1)
        put = self.here.put
        operands: list[str] = []
        for matrix, rows, columns in ((step.a, step.m, step.k), (step.b, step.k, step.n)):
            plain = matrix.column_stride == 1
            order = _NO_TRANSPOSE if plain else _TRANSPOSE
            leading = put(f"trunc i64 {self.size(self._leading(matrix, columns if plain else rows))} to i32")
            operands += [str(order), self._start(matrix, position), leading]
        target = self._start(step.out, position)
        leading = put(f"trunc i64 {self.size(self._leading(step.out, step.n))} to i32")
        sizes = [put(f"trunc i64 {s} to i32") for s in (m, n, k)]
        if kind.is_complex:
            alpha, beta = self._complex_factor(step.alpha, kind), self._complex_factor(step.beta, kind)
            factor = "ptr"
        else:
            alpha, beta = literal(step.alpha, kind), literal(step.beta, kind)
            factor = real
        types = f"i32, i32, i32, i32, i32, i32, {factor}, ptr, i32, ptr, i32, {factor}, ptr, i32"
        name = self.declare(f"cblas_{letter}gemm", f"void @cblas_{letter}gemm({types})")
        ta, a, lda, tb, b, ldb = operands
        small = self.size(scalar.le(real_product((step.m, step.n, step.k)), _ONE_THREAD))
        self.declare("st_blas_threads", "void @st_blas_threads(i1)")
        self.here.do(f"call void @st_blas_threads(i1 {small})")
        self.here.do(
            f"call void @{name}(i32 {_ROW_MAJOR}, i32 {ta}, i32 {tb}, i32 {sizes[0]}, i32 {sizes[1]}, i32 {sizes[2]}, "
            f"{factor} {alpha}, ptr {a}, i32 {lda}, ptr {b}, i32 {ldb}, {factor} {beta}, ptr {target}, i32 {leading})"
        )

    def _start(self, matrix: Matrix, position: str) -> str:
        """The address of the first element of matrix number ``position`` of a batch."""
        kind = matrix.buffer.dtype
        offset = self.size(matrix.offset)
        if position != "0" and matrix.batch_stride != 0:
            moved = self.here.put(f"mul i64 {position}, {self.size(matrix.batch_stride)}")
            offset = self.here.put(f"add i64 {offset}, {moved}")
        base = self.pointer(matrix.buffer)
        if offset == "0":
            return base
        return self.here.put(f"getelementptr inbounds [{kind.itemsize} x i8], ptr {base}, i64 {offset}")

    def _complex_factor(self, value: float, kind: dtypes.DType) -> str:
        real = dtypes.real_of(kind)
        t = typed(real, 1)
        place = f"%factor{self.number()}"
        self.stack.append(f"  {place} = alloca [2 x {t}], align 16")
        self.here.do(f"store {t} {literal(value, real)}, ptr {place}, align 16")
        second = self.here.put(f"getelementptr inbounds {t}, ptr {place}, i64 1")
        self.here.do(f"store {t} {literal(0.0, real)}, ptr {second}, align {real.itemsize}")
        return place
