"""What ``f.explain()`` says about kernels on a device: how they are spread over threads, and what they take."""

from typing import TYPE_CHECKING, Any

from symtensor_codegen.cuda.compile import CompilerMissingError, Resources
from symtensor_codegen.cuda.fusion import finishes_of
from symtensor_codegen.cuda.values import identifier
from symtensor_codegen.loops import Kernel

from .report import table

if TYPE_CHECKING:
    from .pipeline import Compilation

TITLES = ("launch", "form", "threads", "registers", "spill bytes", "shared bytes")


def launches(compilation: "Compilation") -> str:
    """A row per launch of every kernel, then the products that may be one with such a launch.

    What is compiled for the host takes no registers.
    """
    native = compilation.native
    used = _resources(native)
    rows = []
    for kernel in dict.fromkeys(compilation.plan.program.kernels()):
        for number, stage in enumerate(native.emitter.schedule(kernel).stages):
            name = f"{identifier(kernel.name)}_{number}"
            taken = used.get(kernel, {}).get(name)
            numbers = ("", "", "") if taken is None else (taken.registers, taken.spill_bytes, taken.shared_bytes)
            rows.append((name, stage.told, f"up to {stage.threads}", *map(str, numbers)))
    tables = [table(TITLES, rows)] if rows else []
    pairs = dict.fromkeys(finishes_of(compilation.plan.program).values())
    if pairs:
        told = [(p.gemm.out.buffer.name, p.launch.kernel.name, "stored too" if p.kept else "not stored") for p in pairs]
        tables.append(table(("small products that are one launch with", "the kernel", "the product is"), told))
    return "\n\n".join(tables)


def _resources(native: Any) -> dict[Kernel, dict[str, Resources]]:
    try:
        found: dict[Kernel, dict[str, Resources]] = native.resources()
    except CompilerMissingError:  # the code came from the store
        found = {}
    return found
