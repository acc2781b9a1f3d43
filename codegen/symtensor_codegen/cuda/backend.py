"""Programs to CUDA: kernels compiled once, and calls that run on a device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from symtensor_codegen.cuda.calls.reporting import memory_plan
from symtensor_codegen.cuda.calls.run import Explain, RemoteCell, Runner
from symtensor_codegen.cuda.calls.steps import Prepared, Product, Products, refuse_nested
from symtensor_codegen.cuda.compiling import kernels as kernel_store
from symtensor_codegen.cuda.compiling.kernels import (
    DeviceKernel,
    Emitter,
    KernelCode,
    Variant,
    default_emitter,
    variants,
)
from symtensor_codegen.cuda.printing import resources, source
from symtensor_codegen.errors import InternalError
from symtensor_codegen.loops import Kernel
from symtensor_codegen.program import COUNTERS, Gemm, Program, walk

if TYPE_CHECKING:
    from symtensor_codegen.cuda.arrays import DeviceArray
    from symtensor_codegen.cuda.compiling.compile import Resources
    from symtensor_codegen.cuda.device import Device
    from symtensor_codegen.cuda.matmul.products import Chosen, Refused


@dataclass(frozen=True, eq=False)
class GeneratedProgram:
    """A program's code for an architecture, to look at; ``images`` are its kernels' machine code."""

    program: Program
    architecture: str
    emitter: Emitter
    images: dict[Variant, KernelCode]

    def variants(self) -> list[Variant]:
        """The kernels that there is code of."""
        return variants(self.program)

    def source(self, language: str, notes: Mapping[Kernel, str] | None = None) -> str:
        """The generated code: ``loops``, ``program``, ``cuda``, or the kernels' ``ptx`` or ``sass``.

        ``notes``: what kernels compute, for people.
        """
        return source(self.program, language, self.architecture, self.emitter, self.variants(), notes or {})

    def resources(self) -> "dict[Variant, dict[str, Resources]]":
        """The registers, spills and shared memory of every kernel's functions."""
        return resources(self.variants(), self.architecture, self.emitter)

    def memory(self, shapes: Sequence[tuple[int, ...]] | None = None) -> str:
        """What a call takes memory for; with the shapes of inputs and cells, in numbers."""
        return memory_plan(self.program, shapes)


@dataclass(eq=False)
class CompiledProgram:
    """A program on a device. ``hits``: kernels that were known; ``compiled``: kernels compiled now.

    ``counters``, of a program that measures itself, are int64 words: for each timed step, and at the end for all of
    them, calls, nanoseconds, iterations and bytes.
    """

    program: Program
    device: "Device"
    kernels: tuple[DeviceKernel, ...]
    emitter: Emitter
    runner: Runner = field(repr=False)
    milliseconds: dict[str, float]
    hits: int
    compiled: int
    counters: np.ndarray[Any, Any] | None = None

    def call(
        self, inputs: Sequence[Any], cells: Sequence[RemoteCell], explain: Explain | None = None
    ) -> "list[DeviceArray]":
        """The returned results of a call; see ``Runner.call``."""
        return self.runner.call(inputs, cells, explain)

    def free(self) -> None:
        """Give memory back that is kept for the next call, and what the device keeps of freed memory."""
        self.runner.free()

    @property
    def architecture(self) -> str:
        """What the kernels are compiled for."""
        return self.device.architecture

    def source(self, language: str, notes: Mapping[Kernel, str] | None = None) -> str:
        """The generated code: ``loops``, ``program``, ``cuda``, or the kernels' ``ptx`` or ``sass``.

        ``notes``: what kernels compute, for people. What is chosen for sizes is there once a call has chosen it: the
        kernels of matrix products, and variants for few and long items.
        """
        products = [product for product in self.products() if product.variant is not None]
        wanted = self.variants()
        return source(self.program, language, self.architecture, self.emitter, wanted, notes or {}, products)

    def variants(self) -> list[Variant]:
        """The kernels that there is code of: every kernel, then the variants that calls have asked for."""
        asked = [
            Variant.of(step)._replace(apart=True)
            for step, kernel in self.runner.prepared.kernels.items() if kernel.has_apart
        ]  # fmt: skip
        return [*variants(self.program), *dict.fromkeys(asked)]

    def resources(self) -> "dict[Variant, dict[str, Resources]]":
        """The registers, spills and shared memory of every kernel's functions; nothing for a device of the host."""
        return {} if self.device.host else resources(self.variants(), self.architecture, self.emitter)

    def products(self) -> "list[Chosen]":
        """What multiplies matrices, of the sizes of the latest calls."""
        return list(getattr(self.runner.prepared.products, "chosen", ()))

    def refused(self) -> "list[Refused]":
        """The large products of the latest calls that do not end with what follows them, and why."""
        return list(getattr(self.runner.prepared.products, "refused", ()))

    def product_resources(self, product: "Chosen") -> "Resources | None":
        """What the kernel of a product takes; None for a library's, and for a device of the host."""
        if product.variant is None or self.device.host:
            return None
        from symtensor_codegen.cuda.compiling.compile import resources

        return resources(product.text, self.architecture, product.variant.symbol)[product.variant.symbol]

    def memory(self, shapes: Sequence[tuple[int, ...]] | None = None) -> str:
        """What a call takes memory for; with the shapes of inputs and cells, in numbers."""
        return memory_plan(self.program, shapes)


def compile_program(
    program: Program,
    device: "Device",
    precision: str = "float32",
    emitter: Emitter | None = None,
    products: Products | None = None,
) -> CompiledProgram:
    """A program ready to be called on a device.

    ``precision`` is that of matrix products of float32. ``emitter`` and ``products`` (what multiplies matrices) are
    those of this package unless given.
    """
    start = perf_counter()
    refuse_nested(program)
    emitter = default_emitter() if emitter is None else emitter
    with device.current():
        loaded = kernel_store.load(variants(program), device, emitter)
        if products is None:
            products = _products(program, device, precision)
        status = device.allocate(4)
        device.fill(status.address, 4, 0x7F)
    middle = perf_counter()
    prepared = Prepared.of(program, device, loaded.kernels, products, status)
    counters = None
    if program.counters is not None:
        counters = np.zeros(COUNTERS * (len(program.timed_steps) + 1), np.int64)
    runner = Runner(prepared, counters)
    times = {"kernels": (middle - start) * 1e3, "program": (perf_counter() - middle) * 1e3}
    kernels = tuple(prepared.kernels.values())
    return CompiledProgram(
        program, device, kernels, emitter, runner, times, loaded.hits, loaded.compiled, counters
    )  # fmt: skip


def compile_only(program: Program, architecture: str, emitter: Emitter | None = None) -> GeneratedProgram:
    """The code of a program for an architecture such as "sm_90", on a machine that need not have a GPU."""
    refuse_nested(program)
    emitter = default_emitter() if emitter is None else emitter
    return GeneratedProgram(
        program, architecture, emitter, kernel_store.compile_for(variants(program), architecture, emitter)
    )


def _products(program: Program, device: "Device", precision: str) -> Products:
    """What multiplies matrices, where the program does."""
    if not any(isinstance(step, Gemm) for step in walk(program.steps)):
        return _no_products
    from symtensor_codegen.cuda.matmul.products import MatrixProducts

    return MatrixProducts(device, precision)


def _no_products(product: Product) -> Any:
    raise InternalError(f"a program without matrix products asks for {product}")
