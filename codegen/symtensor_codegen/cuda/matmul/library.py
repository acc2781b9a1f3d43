"""Matrix products by NVIDIA's libraries: cuBLAS, and cuBLASLt for products that end with a bias or a relu.

Both have columns where we have rows: to them our matrices are transposed, and out' = b' @ a'. So what is added to each
of our columns is cuBLASLt's bias, one number for each row of its result.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import finalize, ref

import numpy as np

from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.cuda.matmul.endings import DISPUTED, relu_seen

if TYPE_CHECKING:
    from symtensor_codegen.cuda.calls.actions import Stage
    from symtensor_codegen.cuda.calls.steps import Product
    from symtensor_codegen.cuda.device import Block, Device
    from symtensor_codegen.cuda.matmul.endings import Ending, Found

__all__ = [
    "ALIGNMENT", "SCRATCH", "Described", "EndedProduct", "EndingLibrary", "Library", "LibraryProduct",
    "ProductAndEnding", "Unable",
]  # fmt: skip

Array = np.ndarray[Any, Any]

SCRATCH: Final = 32 << 20
"""Bytes that NVIDIA recommends as cuBLAS's workspace; with less it has fewer algorithms."""

ALIGNMENT: Final = 16
"""Bytes at whose multiples cuBLASLt's operands begin: no algorithm needs more, and most need this."""

_MOST_READY: Final = 256
_TYPES: Final = {"float32": 0, "float64": 1, "complex64": 4, "complex128": 5}  # cudaDataType
_MODES: Final = {
    "float32": "COMPUTE_32F", "tf32": "COMPUTE_32F_FAST_TF32", "bfloat16": "COMPUTE_32F_FAST_16BF",
    "float16": "COMPUTE_32F_FAST_16F",
}  # fmt: skip


class Transposed(NamedTuple):
    """The operands b and a as a library sees them: whether each lies as it does, and how far its lines are apart."""

    straight: tuple[bool, bool]
    leading: tuple[int, int]

    @classmethod
    def of(cls, p: Product) -> Transposed:
        """Those of a product."""
        straight = p.b[1] == 1, p.a[1] == 1
        b, a = (
            max(strides[0] if plain else strides[1], columns if plain else rows, 1)
            for strides, plain, rows, columns in ((p.b, straight[0], p.k, p.n), (p.a, straight[1], p.m, p.k))
        )
        return cls(straight, (b, a))


class _Loaded:
    """A library on a device. What a device has is kept as long as it lives, so this does not keep the device alive."""

    def __init__(self, device: Device) -> None:
        self._device = ref(device)

    @property
    def device(self) -> Device:
        """The device, which whoever multiplies keeps alive."""
        device = self._device()
        assert device is not None
        return device


# cuBLAS ---------------------------------------------------------------------------------------------------------------


class Library(_Loaded):
    """cuBLAS, through NVIDIA's bindings."""

    def __init__(self, device: Device) -> None:
        from nvmath.bindings import cublas

        super().__init__(device)
        self.cublas = cublas
        self.multiply = cublas.gemm_strided_batched_ex_64
        self.lock = threading.Lock()
        with device.current():
            self.handle = cublas.create()

    def arguments(self, product: Product, precision: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The constant arguments: what stands before the operands, sizes of b and a (cuBLAS's order), and the modes."""
        p, operations, (straight, leading) = product, self.cublas.Operation, Transposed.of(product)
        flags = [int(operations.N if plain else operations.T) for plain in straight]
        wide = p.dtype.name in ("float64", "complex128")
        mode = int(getattr(self.cublas.ComputeType, "COMPUTE_64F" if wide else _MODES[precision]))
        return (*flags, p.n, p.m, p.k), (leading[0], p.b[2], leading[1], p.a[2], max(p.out[0], p.n, 1), p.out[2]), (
            _TYPES[p.dtype.name], mode, int(self.cublas.GemmAlgo.DFALT),
        )  # fmt: skip


class LibraryProduct:
    """A product by cuBLAS."""

    uses_scratch = True

    def __init__(self, library: Library, product: Product, precision: str, scratch: Block) -> None:
        self.library, self.scratch, self.batch = library, scratch, product.batch
        self.factors = np.array([product.alpha, product.beta], product.dtype.numpy)
        self.shape, self.sizes, (self.type, self.mode, self.algorithm) = library.arguments(product, precision)
        self.description = f"cuBLAS {product.dtype.name if product.dtype.name != 'float32' else precision}"
        self._load(product)

    def _load(self, product: Product) -> None:
        """Multiply once, in memory of its own: the driver would load cuBLAS's kernel late, perhaps in a recording."""
        try:
            blocks = _memory(self.library.device, product, product.out)
        except DeviceMemoryError:
            return
        self(*(block.address for block in blocks))

    def bind(self, out: int, a: int, b: int) -> Callable[[], None]:
        """What queues the product for these addresses."""
        return partial(self, out, a, b)

    def __call__(self, out: int, a: int, b: int) -> None:
        """Queue it on the device's stream, with scratch memory of our own: cuBLAS would allocate some otherwise."""
        library, cublas, kind = self.library, self.library.cublas, self.type
        factor, step = self.factors.ctypes.data, self.factors.itemsize
        b_leading, b_each, a_leading, a_each, out_leading, out_each = self.sizes
        with library.lock, library.device.current():
            cublas.set_stream(library.handle, library.device.stream)  # takes the scratch memory away
            cublas.set_workspace(library.handle, self.scratch.address, SCRATCH)
            library.multiply(
                library.handle, *self.shape, factor, b, kind, b_leading, b_each, a, kind, a_leading, a_each,
                factor + step, out, kind, out_leading, out_each, self.batch, self.mode, self.algorithm,
            )  # fmt: skip


def _memory(device: Device, p: Product, out: tuple[int, int, int]) -> list[Block]:
    """Memory for a product of its own: the result, with these strides, and both operands.

    Raises: DeviceMemoryError.
    """
    sizes = [
        (1 + sum(step * (count - 1) for step, count in zip(strides, (*counts, p.batch), strict=True)))
        for strides, counts in ((out, (p.m, p.n)), (p.a, (p.m, p.k)), (p.b, (p.k, p.n)))
    ]
    return [device.allocate(size * p.dtype.itemsize) for size in sizes]


# cuBLASLt -------------------------------------------------------------------------------------------------------------


class Unable(Exception):
    """cuBLASLt can't end a product so; the message tells why."""


class Described:
    """What cuBLASLt is told of a product of float32 and its ending. No device is needed to tell it.

    Its result is a matrix without gaps.
    """

    def __init__(self, cublas: Any, lt: Any, product: Product, precision: str, ending: Ending) -> None:
        p, self.lt = product, lt
        straight, (b_leading, a_leading) = Transposed.of(p)
        epilogue = lt.Epilogue
        kinds = {
            (True, False): epilogue.BIAS, (False, True): epilogue.RELU, (True, True): epilogue.RELU_BIAS
        }  # fmt: skip
        kind, about, preferred = _TYPES["float32"], lt.MatmulDescAttribute, lt.MatmulPreferenceAttribute
        self.operation = self._made("matmul_desc", int(getattr(cublas.ComputeType, _MODES[precision])), kind)
        self.b = self._layout((p.n, p.k) if straight[0] else (p.k, p.n), b_leading)
        self.a = self._layout((p.k, p.m) if straight[1] else (p.m, p.k), a_leading)
        self.out = self._layout((p.n, p.m), p.n)
        self.preference = self._made("matmul_preference")
        transposes = [int(cublas.Operation.N if plain else cublas.Operation.T) for plain in straight]
        for attribute, value in (
            (about.TRANSA, transposes[0]), (about.TRANSB, transposes[1]),
            (about.EPILOGUE, int(kinds[ending.bias, ending.relu is not None])),
        ):  # fmt: skip
            self._set("matmul_desc", self.operation, attribute, value)
        if ending.bias:
            self.set_bias(ALIGNMENT)  # the choice of an algorithm only looks at what it is a multiple of
        # Of split sums only those in memory of their own, which are then added in order.
        for attribute, value in (
            (preferred.MAX_WORKSPACE_BYTES, SCRATCH),
            (preferred.REDUCTION_SCHEME_MASK, int(lt.ReductionScheme.COMPUTE_TYPE)),
            *((getattr(preferred, f"MIN_ALIGNMENT_{operand}_BYTES"), ALIGNMENT) for operand in "ABCD"),
        ):
            self._set("matmul_preference", self.preference, attribute, value)

    def set_bias(self, address: int) -> None:
        """Where the bias is, when the product is queued next."""
        self._set("matmul_desc", self.operation, self.lt.MatmulDescAttribute.BIAS_POINTER, address)

    def _made(self, kind: str, *arguments: int) -> int:
        """A description, which lives as long as this object."""
        made: int = getattr(self.lt, f"{kind}_create")(*arguments)
        finalize(self, getattr(self.lt, f"{kind}_destroy"), made).atexit = False
        return made

    def _layout(self, size: tuple[int, int], leading: int) -> int:
        return self._made("matrix_layout", _TYPES["float32"], *size, leading)

    def _set(self, kind: str, described: int, attribute: Any, value: int) -> None:
        word = np.array([value], getattr(self.lt, f"get_{kind}_attribute_dtype")(attribute))
        getattr(self.lt, f"{kind}_set_attribute")(described, attribute, word.ctypes.data, word.nbytes)


class EndingLibrary(_Loaded):
    """cuBLASLt, through NVIDIA's bindings; what it can do on a device is kept."""

    def __init__(self, device: Device) -> None:
        from nvmath.bindings import cublas, cublasLt

        super().__init__(device)
        self.cublas, self.lt = cublas, cublasLt
        self.lock = threading.RLock()
        self._ready: dict[tuple[Product, str, Ending], EndedProduct | str] = {}
        with device.current():
            self.handle = cublasLt.create()

    def ended(self, product: Product, precision: str, ending: Ending, scratch: Block) -> EndedProduct:
        """A product ready to be queued.

        Raises: Unable.
        """
        key = product, precision, ending
        with self.lock:
            found = self._ready.get(key)
            if found is None:
                if len(self._ready) >= _MOST_READY:
                    self._ready.clear()
                found = self._ready[key] = self._tried(product, precision, ending, scratch)
        if isinstance(found, str):
            raise Unable(found)
        return found

    def _tried(self, product: Product, precision: str, ending: Ending, scratch: Block) -> EndedProduct | str:
        """A product, or why there is none."""
        try:
            return EndedProduct(self, product, precision, ending, scratch)
        except Unable as reason:
            return str(reason)
        except self.lt.cuBLASLtError as error:  # followed by advice about its own logging
            return f"cuBLASLt refuses it: {str(error).partition('. ')[0]}"


class EndedProduct:
    """A product by cuBLASLt, with a bias, a relu or both at its end."""

    def __init__(
        self, library: EndingLibrary, product: Product, precision: str, ending: Ending, scratch: Block
    ) -> None:
        """Raises Unable where the library has no algorithm, or one whose relu is another."""
        self.library, self.scratch, self.ending = library, scratch, ending
        self.description = f"cuBLASLt {precision} with {ending.told}"
        self.factors = np.array([product.alpha, 0], np.float32)
        self.described = Described(library.cublas, library.lt, product, precision, ending)
        self.algorithm = self._algorithm()
        self._try(product)

    def _algorithm(self) -> Array:
        """What the library thinks is fastest (``cublasLtMatmulAlgo_t``).

        Raises: Unable.
        """
        library, lt, d = self.library, self.library.lt, self.described
        found, count = np.zeros(1, _HEURISTIC), np.zeros(1, np.int32)
        with library.device.current():
            lt.matmul_algo_get_heuristic(
                library.handle, d.operation, d.b, d.a, d.out, d.out, d.preference, 1, found.ctypes.data,
                count.ctypes.data,
            )  # fmt: skip
        if not count[0] or found["state"][0]:
            raise Unable("cuBLASLt has no algorithm for it")
        algorithm: Array = found["algorithm"][0].copy()
        return algorithm

    def _try(self, p: Product) -> None:
        """Multiply once, in memory of its own, as the driver loads kernels late; and see what the relu is.

        NVIDIA does not document what becomes of NaN, and it need not be the same in all of its kernels. So the one that
        will be used is tried on what people disagree about.

        Raises: Unable.
        """
        device, relu = self.library.device, self.ending.relu
        try:
            blocks = [*_memory(device, p, (p.n, 1, 0)), device.allocate(4 * p.n)]
        except DeviceMemoryError:
            if relu is not None:
                raise Unable("there was no memory to try cuBLASLt's relu in") from None
            return
        out, a, b, bias = (block.address for block in blocks)
        if relu is None:
            self(out, a, b, bias)
            return
        device.upload(bias, np.full(p.n, -0.0, np.float32))  # which changes nothing
        device.fill(b, blocks[2].size, 0x3F)  # 0.747 everywhere
        rows: list[Array] = []
        factors, self.factors = self.factors, np.array([-1, 0], np.float32)  # the only way to -0.0
        for first in range(0, len(DISPUTED), p.m):
            numbers = DISPUTED[first : first + p.m]
            device.fill(a, blocks[1].size, 0)
            for row, number in enumerate(numbers):
                device.upload(a + 4 * row * p.a[0], np.array([-number], np.float32))
            self(out, a, b, bias)
            found = np.empty((len(numbers), p.n), np.float32)
            device.download(found, out)
            rows += list(found)
        self.factors = factors
        seen = relu_seen(rows)
        if seen is None:
            raise Unable("cuBLASLt's relu is not the same everywhere, or none")
        if difference := seen.difference(relu):
            raise Unable(f"cuBLASLt's relu {difference}")

    def __call__(self, out: int, a: int, b: int, bias: int) -> None:
        """Queue it on the device's stream."""
        library, d, factor = self.library, self.described, self.factors.ctypes.data
        with library.lock, library.device.current():
            if self.ending.bias:
                d.set_bias(bias)
            library.lt.matmul(
                library.handle, d.operation, factor, b, d.b, a, d.a, factor + 4, out, d.out, out, d.out,
                self.algorithm.ctypes.data, self.scratch.address, SCRATCH, library.device.stream,
            )  # fmt: skip


_HEURISTIC: Final = np.dtype([
    ("algorithm", np.uint64, 8), ("workspace", np.uint64), ("state", np.int32), ("waves", np.float32),
    ("reserved", np.int32, 4),
])  # fmt: skip
"""``cublasLtMatmulHeuristicResult_t``."""


class ProductAndEnding:
    """A product and its ending: at once where memory begins at multiples of 16 bytes, else one after the other.

    Memory that is lent to a call may begin anywhere.
    """

    uses_scratch = True

    def __init__(
        self, ended: EndedProduct, found: Found, stages: tuple[Stage, ...], plain: Callable[[], Any],
        apart: Callable[[str], None],
    ) -> None:  # fmt: skip
        """``stages`` are those of the kernel, ``plain`` makes what multiplies, and ``apart`` is told why it does."""
        self.ended, self.found, self.stages, self.apart = ended, found, stages, apart
        self._make = plain
        self._plain: Any = None

    def bind(self, out: int, a: int, b: int, arguments: bytes) -> Callable[[], None]:
        """What queues both for these addresses, and for the arguments of the kernel."""
        (result,) = struct.unpack_from("Q", arguments, 8 * self.found.result)
        bias = 0
        if self.found.bias >= 0:
            (bias,) = struct.unpack_from("Q", arguments, 8 * self.found.bias)
        if (result | a | b | bias) % ALIGNMENT == 0:
            return partial(self.ended, result, a, b, bias)
        if self._plain is None:
            self.apart("some of its memory does not begin at a multiple of 16 bytes")
            self._plain = self._make()
        multiply, device = self._plain.bind(out, a, b), self.ended.library.device

        def queue() -> None:
            multiply()
            for function, grid, block in self.stages:
                device.launch(function, grid, block, arguments)

        return queue

    def __call__(self, out: int, a: int, b: int, arguments: bytes) -> None:
        """Queue both."""
        self.bind(out, a, b, arguments)()
