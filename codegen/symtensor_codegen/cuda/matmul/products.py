"""Matrix products on a device: by a kernel of our own where products are small or cuBLAS is missing, else by cuBLAS."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from symtensor_codegen.cuda.compiling.compile import FULL
from symtensor_codegen.cuda.matmul import choice as matmul_choice
from symtensor_codegen.cuda.matmul.kernels import combine_text, matmul_text
from symtensor_codegen.cuda.matmul.library import (
    SCRATCH,
    EndedProduct,
    EndingLibrary,
    Library,
    LibraryProduct,
    ProductAndEnding,
    Unable,
)
from symtensor_codegen.cuda.matmul.variants import ELEMENTS, PRECISIONS, Epilogue, Variant
from symtensor_codegen.errors import BackendError

if TYPE_CHECKING:
    from symtensor_codegen.cuda.calls.actions import Stage
    from symtensor_codegen.cuda.calls.steps import Product
    from symtensor_codegen.cuda.device import Block, Device
    from symtensor_codegen.cuda.matmul.endings import Ending, Found

__all__ = ["Chosen", "MatrixProducts", "Multiply", "Refused"]

_MOST_BLOCKS_ACROSS: Final = 65535
_MOST_CHOSEN: Final = 64
_NO_EPILOGUE: Final = Epilogue()
_LAUNCH: Final = 2500.0
"""Estimated cycles of a launch that is saved."""

_LONG: Final = 50_000
"""Estimated cycles of a product beside which a launch more or less does not count."""


Told = TypeVar("Told", "Chosen", "Refused")


class Multiply(Protocol):
    """A product of known sizes, ready to be queued any number of times."""

    uses_scratch: bool
    """Whether it uses scratch memory that all products of the device share: two that do must not run side by side."""

    description: str
    """What computes it."""

    def bind(self, out: int, a: int, b: int) -> Callable[[], None]:
        """Get everything ready for these addresses of the operands' first elements; the result queues the product.

        To be called outside of a recording: kernels may have to be loaded.
        """

    def __call__(self, out: int, a: int, b: int) -> None:
        """Queue it for these addresses."""


class Sizes(NamedTuple):
    """Those of a product."""

    m: int
    n: int
    k: int
    batch: int

    @classmethod
    def of(cls, p: Product) -> Sizes:
        """Rows, columns, terms, batch."""
        return cls(p.m, p.n, p.k, p.batch)

    def __str__(self) -> str:
        return f"{self.m} x {self.k} by {self.k} x {self.n}" + (f", {self.batch} of them" if self.batch > 1 else "")


class Chosen(NamedTuple):
    """What multiplies matrices of some sizes: a kernel of our own, or without a ``variant`` a library of NVIDIA's."""

    sizes: Sizes
    description: str
    variant: Variant | None

    @property
    def told(self) -> str:
        """The sizes in words."""
        return str(self.sizes)

    @property
    def text(self) -> str:
        """The CUDA text of the kernel."""
        assert self.variant is not None
        return FULL + matmul_text(self.variant)


class Refused(NamedTuple):
    """A large product that does not end with what follows it, although cuBLASLt has such an ending."""

    sizes: Sizes
    ending: str
    reason: str


class MatrixProducts:
    """Makes the products of a program ready, in one precision for float32 operands (see `PRECISIONS`).

    Kernels, libraries and scratch memory are those of the device, whatever the number of programs. ``chosen`` and
    ``refused`` tell what the latest products were, each once.
    """

    def __init__(self, device: Device, precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise BackendError(f"the precision of matrix products is one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.device, self.precision = device, precision
        self.chosen: dict[Chosen, None] = {}
        self.refused: dict[Refused, None] = {}
        with _lock:
            self.means = _means.setdefault(device, Means(device))

    def __call__(self, product: Product) -> Multiply:
        """Get everything ready for a product.

        Raises BackendError for an element type that matrix products do not have.
        """
        if product.dtype.name not in ELEMENTS:
            raise BackendError(f"the cuda backend has no matrix product of {product.dtype}")
        precision = self._own_precision(product)
        choice = _chosen(self.means, product, precision)
        library = self.means.library() if self._is_for_library(product, choice.cycles) else None
        if library is not None:
            precision = self.precision if product.dtype.name == "float32" else "float32"
            multiply = LibraryProduct(library, product, precision, self.means.scratch(SCRATCH))
            self._note(product, multiply.description, None)
            return multiply
        return self._generated(product, precision, choice)

    def finished(self, product: Product, epilogue: Epilogue) -> Generated | None:
        """The product by a kernel of our own that goes on with each result; None where one launch has no use.

        That is where products are large: cuBLAS is better at them, or the launch that is saved does not count.
        """
        precision = self._own_precision(product)
        choice = _chosen(self.means, product, precision)
        if choice.scratch > 0 or choice.cycles > _LONG:
            return None
        if self._is_for_library(product, choice.cycles - _LAUNCH) and self.means.library() is not None:
            return None
        return self._generated(product, precision, choice, epilogue)

    def ended(
        self, product: Product, found: Found, stages: tuple[Stage, ...], plain: Callable[[], Multiply]
    ) -> ProductAndEnding | None:
        """The product by a library that goes on with each result; None where it is not large, or no library does so.

        ``stages`` and ``plain`` do both apart, where memory demands it.
        """
        choice = _chosen(self.means, product, self._own_precision(product))
        if not self._is_for_library(product, choice.cycles) or self.means.library() is None:
            return None
        refuse = partial(self._refuse, product, found.ending)
        try:
            ended = self.means.ended(product, self.precision, found.ending)
        except Unable as reason:
            refuse(str(reason))
            return None
        self._note(product, ended.description, None)
        return ProductAndEnding(ended, found, stages, plain, refuse)

    def _generated(
        self, product: Product, precision: str, choice: matmul_choice.Choice, epilogue: Epilogue = _NO_EPILOGUE
    ) -> Generated:
        multiply = Generated(self.means, product, precision, choice, epilogue)
        self._note(product, multiply.description, multiply.variant(0, 0))
        return multiply

    def _note(self, p: Product, description: str, variant: Variant | None) -> None:
        _keep(self.chosen, Chosen(Sizes.of(p), description, variant))

    def _refuse(self, p: Product, ending: Ending, reason: str) -> None:
        _keep(self.refused, Refused(Sizes.of(p), ending.told, reason))

    def _own_precision(self, product: Product) -> str:
        """The precision of our own kernels."""
        if product.dtype.name != "float32" or self.device.host:
            return "float32"
        # More exact than was asked for: tensor cores before sm_80 know float16 alone.
        return "float32" if int(self.device.architecture.removeprefix("sm_")) < 80 else self.precision

    def _is_for_library(self, p: Product, cycles: float) -> bool:
        """Whether cuBLAS, if it is there, should take clearly less than so many cycles."""
        element, precision = ELEMENTS[p.dtype.name], self.precision if p.dtype.name == "float32" else "float32"
        estimate = matmul_choice.library_cycles(
            element, precision, p.m, p.n, p.k, p.batch, self.device.multiprocessors
        )  # fmt: skip
        return p.alpha != 0 and estimate < 0.95 * cycles


def _keep(latest: dict[Told, None], one: Told) -> None:
    """Put something among the latest."""
    if one not in latest and len(latest) >= _MOST_CHOSEN:
        latest.pop(next(iter(latest)))
    latest[one] = None


def _chosen(means: Means, p: Product, precision: str) -> matmul_choice.Choice:
    """Which of our own kernels multiplies."""
    element = ELEMENTS[p.dtype.name]
    device = means.device
    clusters = not device.host and int(device.architecture.removeprefix("sm_")) >= 90
    return matmul_choice.choose(element, precision, p.m, p.n, p.k, p.batch, device.multiprocessors, clusters)


class Means:
    """What the products of a device share: kernels that are loaded, libraries if there are any, scratch memory."""

    def __init__(self, device: Device) -> None:
        self._device = ref(device)  # the device may go: these belong to it
        self._lock = threading.RLock()
        self._functions: dict[Variant, Any] = {}
        self._combines: dict[str, Any] = {}
        self._scratch: Block | None = None
        self._library: Library | None = None
        self._endings: EndingLibrary | None = None
        self.library_missing = "this device has none" if device.host else ""
        """Why there is no cuBLAS; empty as long as there is one, or nobody has asked."""
        self.endings_missing = ""
        """The same of cuBLASLt."""

    @property
    def device(self) -> Device:
        """The device, which whoever multiplies keeps alive."""
        device = self._device()
        assert device is not None
        return device

    def library(self) -> Library | None:
        """CuBLAS, or None where it cannot be had: ``library_missing`` tells why."""
        with self._lock:
            if self._library is None and not self.library_missing:
                try:
                    self._library = Library(self.device)
                except Exception as error:  # whatever loading a shared library may raise
                    self.library_missing = f"{type(error).__name__}: {error}"
            return self._library

    def ended(self, product: Product, precision: str, ending: Ending) -> EndedProduct:
        """The product by cuBLASLt.

        Raises: Unable.
        """
        with self._lock:
            if self._endings is None and not self.endings_missing:
                try:
                    self._endings = EndingLibrary(self.device)
                except Exception as error:  # whatever loading a shared library may raise
                    self.endings_missing = f"cuBLASLt cannot be used: {type(error).__name__}: {error}"
            if self._endings is None:
                raise Unable(self.endings_missing)
            return self._endings.ended(product, precision, ending, self.scratch(SCRATCH))

    def scratch(self, nbytes: int) -> Block:
        """At least so many bytes, shared by all products. Whoever got them before keeps what they have."""
        with self._lock:
            if self._scratch is None or self._scratch.size < nbytes:
                self._scratch = self.device.allocate(nbytes)
            return self._scratch

    def function(self, variant: Variant) -> Any:
        """The loaded kernel."""
        with self._lock:
            found = self._functions.get(variant)
            if found is None:
                text, symbol = FULL + matmul_text(variant), variant.symbol
                found = self._functions[variant] = self.device.load(self.device.code(text, symbol)).function(symbol)
            return found

    def combine(self, dtype: str) -> Any:
        """The loaded second kernel of split products."""
        with self._lock:
            found = self._combines.get(dtype)
            if found is None:
                symbol = f"matmul_combine_{ELEMENTS[dtype].spelling}"
                text = combine_text(ELEMENTS[dtype], symbol)
                found = self._combines[dtype] = self.device.load(self.device.code(text, symbol)).function(symbol)
            return found


_lock = threading.Lock()
_means: WeakKeyDictionary[Device, Means] = WeakKeyDictionary()


class Generated:
    """A product by kernels of our own."""

    def __init__(
        self,
        means: Means,
        product: Product,
        precision: str,
        choice: matmul_choice.Choice | None = None,
        epilogue: Epilogue = _NO_EPILOGUE,
    ) -> None:
        """``epilogue``: what the kernel goes on to do with each result, where the product is not split."""
        self.means, self.product, self.device = means, product, means.device
        self.element = ELEMENTS[product.dtype.name]
        self.choice, self.epilogue = choice or _chosen(means, product, precision), epilogue
        self.precision = "float32" if self.choice.exact else precision
        self.uses_scratch = self.choice.scratch > 0
        self.scratch = means.scratch(self.choice.scratch) if self.uses_scratch else None
        p, tile = product, self.choice.tile
        self.a_along_k, self.a_stride, self.a_even = _layout(p.a, p.m, p.k, p.batch)
        along_n, self.b_stride, self.b_even = _layout(p.b, p.k, p.n, p.batch)
        self.b_along_k = not along_n
        stages = -(-p.k // tile.depth)
        self.depth = max(-(-stages // self.choice.splits), 1) * tile.depth
        across = -(-p.m // tile.rows) * -(-p.n // tile.columns)
        self.grid = (across, 1 if means.device.host and self.choice.cluster > 1 else self.choice.splits)
        # Whole pools are aligned, so these are the kernels that calls will need, if they need not others as well.
        self.description = self.variant(0, 0).symbol
        means.function(self.variant(0, 0))
        if self.uses_scratch:
            means.combine(p.dtype.name)

    def variant(self, a: int, b: int) -> Variant:
        """The kernel for operands at these addresses."""
        return Variant(
            self.element, self.choice.tile, self.a_along_k, self.b_along_k,
            _chunk(self.element.size, self.element.lanes, self.a_even, a),
            _chunk(self.element.size, self.element.lanes, self.b_even, b),
            self.precision, self.uses_scratch, self.epilogue, self.choice.cluster,
            self.device.host and self.choice.cluster > 1,
        )  # fmt: skip

    def bind(self, out: int, a: int, b: int, more: bytes = b"") -> Callable[[], None]:
        """Load what these addresses need, and return what queues it; ``more`` are the epilogue's arguments.

        Each launch takes as many of a batch as a grid has room for.
        """
        variant, device, p, size = self.variant(a, b), self.device, self.product, self.element.size
        function = self.means.function(variant)
        target, each = out, p.out[2]
        if self.scratch is not None:
            target, each = self.scratch.address, self.choice.splits * p.m * p.n
        launches = []
        for start in range(0, p.batch, _MOST_BLOCKS_ACROSS):
            arguments = struct.pack(
                "3Q10q2d", a + start * p.a[2] * size, b + start * p.b[2] * size, target + start * each * size,
                p.m, p.n, p.k, self.a_stride, self.b_stride, p.out[0], p.a[2], p.b[2], p.out[2], self.depth,
                p.alpha, p.beta,
            ) + more  # fmt: skip
            grid = (*self.grid, min(p.batch - start, _MOST_BLOCKS_ACROSS))
            launches.append((function, grid, (variant.launched, 1, 1), arguments))
        if self.scratch is not None:
            arguments = struct.pack(
                "2Q6q2d", target, out, p.m, p.n, p.batch, self.choice.splits, p.out[0], p.out[2], p.alpha, p.beta
            )
            blocks = min(-(-p.m * p.n * p.batch // 256), 8 * device.multiprocessors)
            launches.append((self.means.combine(p.dtype.name), (blocks, 1, 1), (256, 1, 1), arguments))

        def queue() -> None:
            for launch in launches:
                device.launch(*launch)

        return queue

    def __call__(self, out: int, a: int, b: int, more: bytes = b"") -> None:
        """Queue the kernels."""
        self.bind(out, a, b, more)()


def _layout(strides: tuple[int, int, int], rows: int, columns: int, batch: int) -> tuple[bool, int, int]:
    """Whether an operand's neighbours are in one row; the other stride; and what all its lines begin at a multiple of.

    A stride along which there is one step only does not matter.
    """
    row, column, each = strides
    along = column == 1 or columns == 1
    stride, lines = (row, rows) if along else (column, columns)
    if along and columns == 1 and row == 1:  # a column without gaps: better read along its rows
        along, stride, lines = False, column, columns
    even = stride if lines > 1 else 0
    return along, stride, even | (each if batch > 1 else 0)


def _chunk(size: int, lanes: int, even: int, address: int) -> int:
    """The most elements (a power of two) at whose multiples every line begins."""
    while lanes > 1 and (even % lanes or address % (lanes * size)):
        lanes //= 2
    return lanes
