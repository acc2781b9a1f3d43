"""What ``f.explain()`` says about kernels on a device: how they are spread over threads, and what they take."""

from typing import TYPE_CHECKING, Any

from symtensor_codegen.cuda.compiling.compile import CompilerMissingError, Resources
from symtensor_codegen.cuda.compiling.kernels import Variant
from symtensor_codegen.cuda.matmul.fusion import finishes_of
from symtensor_codegen.program import Gemm, walk

from .report import table

if TYPE_CHECKING:
    from .pipeline import Compilation

TITLES = ("launch", "form", "threads", "registers", "spill bytes", "shared bytes")
UNCHOSEN = "The kernels of matrix products are chosen on a device, by the first call with new sizes."


def launches(compilation: "Compilation") -> str:
    """A row per launch of every kernel, then the matrix products, and those that may be one with such a launch.

    What is compiled for the host takes no registers.
    """
    native = compilation.native
    used = _resources(native)
    rows = []
    for variant in native.variants():
        for number, stage in enumerate(native.emitter.schedule(variant.kernel, variant.apart).stages):
            name = f"{variant.function}_{number}"
            taken = used.get(variant, {}).get(name)
            rows.append((name, stage.told, f"up to {stage.threads}", *_numbers(taken)))
    tables = [table(TITLES, rows)] if rows else []
    if any(isinstance(step, Gemm) for step in walk(compilation.plan.program.steps)):
        tables.append(_products(native))
    pairs = dict.fromkeys(finishes_of(compilation.plan.program).values())
    if pairs:
        told = [(p.gemm.out.buffer.name, p.launch.kernel.name, "stored too" if p.kept else "not stored") for p in pairs]
        tables.append(table(("small products that are one launch with", "the kernel", "the product is"), told))
    refused = [(str(r.sizes), r.ending, r.reason) for r in native.refused()] if hasattr(native, "refused") else []
    if refused:
        tables.append(table(("large product", "does not end with", "because"), refused))
    return "\n\n".join(tables)


def _products(native: Any) -> str:
    """A row for each matrix product of the latest calls."""
    rows = []
    for product in native.products() if hasattr(native, "products") else ():
        threads = "" if product.variant is None else str(product.variant.launched)
        taken = native.product_resources(product)
        rows.append((product.told, product.description, threads, *_numbers(taken)))
    return table(("matrix product", "kernel", *TITLES[2:]), rows) if rows else UNCHOSEN


def _numbers(taken: Resources | None) -> tuple[str, str, str]:
    if taken is None:
        return "", "", ""
    return str(taken.registers), str(taken.spill_bytes), str(taken.shared_bytes)


def _resources(native: Any) -> dict[Variant, dict[str, Resources]]:
    try:
        found: dict[Variant, dict[str, Resources]] = native.resources()
    except CompilerMissingError:  # the code came from the store
        found = {}
    return found
