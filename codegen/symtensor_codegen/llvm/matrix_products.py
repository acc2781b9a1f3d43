"""Matrix products in host programs: calls of BLAS (CBLAS, row-major)."""

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import BackendError
from symtensor_codegen.llvm.host_code import HostCode
from symtensor_codegen.llvm.types import literal, typed
from symtensor_codegen.program import Gemm, Matrix
from symtensor_codegen.scalar import Dim, as_int

_GEMM = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}
_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = 101, 111, 112  # CBLAS's enumerations


class MatrixProducts(HostCode):
    """Writes the products of a program."""

    def gemm(self, step: Gemm) -> None:
        """Write a product."""
        kind = step.out.buffer.dtype
        letter = _GEMM.get(kind.name)
        if letter is None:
            raise BackendError(f"BLAS has no matrix product of {kind}")
        m, n, k = (self.size(s) for s in (step.m, step.n, step.k))
        batch = self.size(step.batch)
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
