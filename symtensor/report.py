"""What the compiler did, as text: ``f.explain()`` and ``f.memory``."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from symtensor_codegen.loops import Kernel
from symtensor_codegen.program import Allocate, AllocateOutput, Gemm, Launch, Place, walk
from symtensor_codegen.program_text import program_names
from symtensor_codegen.scalar import Buffer, Dim
from symtensor_codegen.substitution import product
from symtensor_codegen.text import Names, scalar_text

from .graph import Tensor, ancestors
from .opdef import where
from .ops.branch_records import BRANCH
from .ops.loop_records import LOOP, body_of

if TYPE_CHECKING:
    from .lower.units import Units
    from .pipeline import Compilation

LONGEST = 80  # characters of the last column in a line

def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a header, in columns; numbers are aligned at the right, and a long last column is wrapped."""
    rows = [part for row in rows for part in _wrapped(row)]
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    lines = []
    for row in [header, tuple("-" * w for w in widths), *rows]:
        cells = [cell.rjust(w) if _is_number(cell) else cell.ljust(w) for cell, w in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _wrapped(row: Sequence[str]) -> list[tuple[str, ...]]:
    """A row as one or more lines of the table."""
    first, *others = wrap(row[-1], LONGEST) or [""]
    empty = ("",) * (len(row) - 1)
    return [(*row[:-1], first), *[(*empty, line) for line in others]]


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()


def counted(number: int, noun: str, several: str | None = None) -> str:
    """``1 kernel``, ``2 kernels``."""
    return f"{number} {noun}" if number == 1 else f"{number} {several or noun + 's'}"


class Stages(Mapping[str, str]):
    """The graph after each pass, as text made when it is asked for; printed, it lists the passes."""

    def __init__(self, compilation: "Compilation") -> None:
        self._stages = {stage.name: stage for stage in compilation.stages}

    def __getitem__(self, name: str) -> str:
        from .printing import debugprint

        if name not in self._stages:
            raise KeyError(f"there is no stage {name!r}; the stages are {', '.join(self._stages)}")
        return str(debugprint(list(self._stages[name].outputs), file="str"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    def __contains__(self, name: object) -> bool:
        return name in self._stages

    def __repr__(self) -> str:
        counts = [f"{name} ({len(ancestors(stage.outputs))} nodes)" for name, stage in self._stages.items()]
        return f"<stages: {', '.join(counts)}>"


def explanation(compilation: "Compilation") -> str:
    """A row per pass (nodes, milliseconds, rules fired), then the kernels and how they were found."""
    from .pipeline import STRUCTURE

    rows: list[tuple[str, ...]] = []
    for stage in compilation.stages:
        fired = Counter(firing.rule for firing in stage.log)
        told = ", ".join(f"{rule} x{n}" if n > 1 else rule for rule, n in fired.most_common()) or "(unchanged)"
        if stage.name == "graph":
            told = "as written, with gradients"
        elif any(stage.name == structure.name for structure in STRUCTURE):
            inside = [n for n in ancestors(stage.outputs) if n.op is LOOP or n.op is BRANCH]
            loops = sum(n.op is LOOP for n in inside)
            told = f"{counted(loops, 'loop')}, {counted(len(inside) - loops, 'branch', 'branches')}"
        rows.append((stage.name, str(len(ancestors(stage.outputs))), f"{stage.milliseconds:.2f}", told))
    program, native = compilation.plan.program, compilation.native
    launches = [s for s in walk(program.steps) if isinstance(s, Launch)]
    products = sum(isinstance(s, Gemm) for s in walk(program.steps))
    times = compilation.milliseconds
    rows.append(("lower", str(len(compilation.plan.units.list)), f"{times['lower']:.2f}",
                 f"{counted(len(launches), 'kernel')}, {counted(products, 'matrix product')}"))  # fmt: skip
    made = f"compiled for {native.architecture}" if hasattr(native, "architecture") else "compiled"
    if hasattr(native, "hits"):
        made = f"{counted(native.compiled, 'kernel')} {made}, {native.hits} from the cache"
    rows.append(("native", str(len(launches)), f"{times['native']:.2f}", made))
    names = program_names(program)
    notes = computed(compilation)
    kernels = [
        (
            launch.kernel.name,
            scalar_text(launch.extent, names),
            ", ".join(buffer.name for buffer in launch.buffers),
            notes[launch.kernel],
        )
        for launch in launches
    ]
    text = table(("pass", "nodes", "ms", "what happened"), rows)
    if kernels:
        text += "\n\n" + table(("kernel", "iterations", "buffers (written first)", "computes"), kernels)
    if hasattr(native, "architecture"):
        from .device_report import launches as spread

        text += "\n\n" + spread(compilation)
    return text


def computed(compilation: "Compilation") -> dict[Kernel, str]:
    """What each kernel computes, with the user's names and lines."""
    program, units = compilation.plan.program, compilation.plan.units
    written = _written(units)
    for output, node in zip(program.outputs, compilation.stages[-1].outputs, strict=True):
        if output.in_place:
            written[output.buffer] = node, units
    return {step.kernel: _computed(step, written) for step in walk(program.steps) if isinstance(step, Launch)}


def _written(units: "Units") -> "dict[Buffer, tuple[Tensor, Units]]":
    """What is computed into which buffer, inside loops and branches too."""
    found: dict[Buffer, tuple[Tensor, Units]] = {}
    queue = [units]
    for each in queue:
        found |= {buffer: (unit.node, each) for buffer, unit in each.by_buffer.items()}
        queue += each.inner
    return found


def _computed(launch: Launch, written: "Mapping[Buffer, tuple[Tensor, Units]]") -> str:
    """What a kernel writes: the user's name or the operation, what is fused into it, and the user's line."""
    told = []
    for here, buffer in zip(launch.kernel.buffers, launch.buffers, strict=True):
        if here not in launch.kernel.written:
            continue
        if buffer not in written:
            told.append(f"{buffer.name}: partial results")
            continue
        node, units = written[buffer]
        if node.op is LOOP:  # all its steps in one kernel, which writes several results
            inside = [inner for inner in ancestors(body_of(node).outputs) if inner.inputs]
            fused = Counter(inner.op.name for inner in inside)
        else:
            fused = Counter(inner.op.name for inner in _fused(node, units))
        parts = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in fused.items())
        label = f"{node.name} = " if node.name else ""
        told.append(f"{label}{node.op.name}" + (f" of {parts}" if parts else "") + where(node))
    if any(buffer in written and written[buffer][0].op is LOOP for buffer in launch.buffers):
        told = [text for text in dict.fromkeys(told) if not text.endswith("partial results")]
    return "; ".join(dict.fromkeys(told))


def _fused(root: Tensor, units: "Units") -> list[Tensor]:
    """The operations computed inside the loop of ``root``, last ones first."""
    found: dict[Tensor, None] = {}
    queue = [root]
    for node in queue:
        for operand in node.inputs:
            unit = units.of.get(operand)
            if operand.inputs and operand not in found and (unit is None or not unit.stored):
                found[operand] = None
                queue.append(operand)
    return list(found)


def memory(compilation: "Compilation") -> str:
    """The buffers of one call: outputs, places in the arena (shared where lifetimes allow), updates."""
    program = compilation.plan.program
    names = program_names(program)
    rows: list[tuple[str, ...]] = []
    places: dict[Dim, int] = {}
    placed = 0
    for step in program.steps:
        match step:
            case Place(buffer=buffer, offset=offset):
                placed += 1
                rows.append((*_buffer(buffer, names), f"arena, place {places.setdefault(offset, len(places) + 1)}"))
            case Allocate(buffer=buffer):
                rows.append((*_buffer(buffer, names), "block of its own"))
            case AllocateOutput(buffer=buffer, position=position):
                cell = program.outputs[position].cell
                place = "returned" if cell is None else f"next value of {program.cells[cell].name}"
                rows.append((*_buffer(buffer, names), place))
    rows += [(*_buffer(o.buffer, names), "updated in place") for o in program.outputs if o.in_place]
    text = (
        f"arena: {counted(placed, 'temporary buffer')} in {counted(len(places), 'place')}" if placed else "arena: none"
    )
    return f"{text}\n\n{table(('buffer', 'dtype', 'bytes', 'where'), rows)}" if rows else text


def _buffer(buffer: Buffer, names: Names) -> tuple[str, str, str]:
    size = scalar_text(product((*buffer.dims, buffer.dtype.itemsize)), names)
    return buffer.name, str(buffer.dtype), size[1:-1] if size.startswith("(") else size
