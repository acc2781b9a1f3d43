"""Computing again instead of keeping: the gradient of a checkpoint starts from its inputs only.

Both are loops whose body says ``recompute``: the reverse loop then takes nothing from the forward loop but states,
rows and constants. The compiler leaves the work of such a loop where it is.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from symtensor.graph import Constant, Tensor, as_tensor, constant, leaves, replace, variable
from symtensor.opdef import CONSTANT, OPS
from symtensor.ops.creation import arange, zeros
from symtensor.ops.joining import concatenate
from symtensor.ops.loop_body import capture, index_variable, make_body
from symtensor.ops.loop_records import LOOP, trace
from symtensor.ops.shaping_axes import dim, sizes
from symtensor.ops.shaping_reshape import reshape
from symtensor.updates import OrderedUpdates

from .scan import run_scan, scan
from .steps import ScanError, listed


def checkpoint(what: Any, inputs: Sequence[Tensor] | None = None) -> Any:
    """An expression, or a function that makes expressions, whose gradient computes it again.

    What is between ``inputs`` and the expression is not kept for the gradient: it costs memory only while the
    expression, or its gradient, is computed, and is computed twice.

    Args:
        what: an expression or a list of expressions; or a function of expressions that returns such.
        inputs: the expressions from which to compute again; by default the variables and shared variables that
            ``what`` is computed from. Not for functions: these start from their arguments, and from what they use
            beside them.

    Returns:
        As ``what``: expressions of the same values, or a function that returns such.
    """
    if callable(what) and not isinstance(what, Tensor):
        if inputs is not None:
            raise ScanError("checkpoint: a function starts from its arguments; inputs are for expressions")
        return _checkpointed(what)
    outputs = [as_tensor(x) for x in listed(what)]
    starts = [n for n in leaves(outputs) if n.op is not CONSTANT] if inputs is None else [as_tensor(x) for x in inputs]
    made = _once(outputs, starts, getattr(outputs[0], "name", None) or "")
    return made if isinstance(what, (list, tuple)) else made[0]


def _checkpointed(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        given = [as_tensor(x) for x in args]
        inner = [variable(x.type, x.name) for x in given]
        returned = fn(*inner)
        outputs = [as_tensor(x) for x in listed(returned)]
        made = _once(outputs, inner, getattr(fn, "__name__", ""), given)
        return made if isinstance(returned, (list, tuple)) else made[0]

    return call


def _once(
    outputs: Sequence[Tensor], starts: Sequence[Tensor], name: str, given: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The outputs by a loop of one step over ``starts``, whose values are ``given`` (themselves by default)."""
    inner = [variable(s.type, s.name) for s in starts]
    found = replace(outputs, dict(zip(starts, inner, strict=True)))
    found, captured, holes = capture(found, inner)
    body = make_body(
        index_variable(), (), (), (*inner, *holes), (), None, False, -1, name, recompute=True
    )
    loop = LOOP.make(constant(1, "int64"), *(starts if given is None else given), *captured, body=body)
    return [trace(loop, node)[0] for node in found]


def scan_checkpoints(
    fn: Callable[..., Any],
    sequences: Any = None,
    outputs_info: Any = None,
    non_sequences: Any = None,
    name: str | None = "checkpointscan_fn",
    n_steps: Any = None,
    save_every_N: int = 10,
    padding: bool = True,
) -> tuple[Any, OrderedUpdates]:
    """``scan`` that keeps its states after every ``save_every_N`` steps only, also for the gradient.

    The gradient computes the steps between again. With ``save_every_N`` near the square root of the number of steps,
    memory is proportional to that square root.

    Args:
        fn, sequences, outputs_info, non_sequences, n_steps, name: as in ``scan``, without taps.
        save_every_N: how many steps are done between two states that are kept.
        padding: rows are added to the sequences where their number is not a multiple of ``save_every_N`` (no step
            sees them). Otherwise that number must be such a multiple.

    Returns:
        The outputs after ``save_every_N`` steps, after twice as many, ..., and after the last step; and updates.

    Raises:
        ValueError: sequences or outputs have taps, or ``save_every_N`` is not positive.
    """
    label = f"scan_checkpoints{' ' + name if name else ''}"
    if save_every_N < 1:
        raise ScanError(f"{label}: save_every_N must be positive, got {save_every_N}")
    infos = listed(outputs_info)
    if any(isinstance(item, Mapping) for item in (*listed(sequences), *infos)):
        raise ScanError(f"{label}: sequences and outputs cannot have taps")
    rows = [as_tensor(s) for s in listed(sequences)]
    total = _steps(rows, n_steps, label)
    blocks = (total + (save_every_N - 1)) // save_every_N
    whole = isinstance(total, Constant) and int(total.data) % save_every_N == 0
    cut = [_in_blocks(s, total, blocks, save_every_N, padding and not whole) for s in rows]
    if padding and not whole:
        cut.append(OPS["minimum"](total - arange(blocks) * save_every_N, save_every_N))
    states = sum(item is not None for item in infos)

    def block(*args: Any) -> Any:
        parts, rest = args[: len(rows)], args[len(cut) :]
        steps = args[len(rows)] if len(cut) > len(rows) else save_every_N
        before = iter(rest[:states])
        inner = [None if item is None else next(before) for item in infos]
        results, updates = scan(fn, list(parts), inner, list(rest[states:]), steps, name=name, return_list=True)
        return [r[-1] for r in results], updates

    outer = [*infos] if infos else None
    return run_scan(block, cut, outer, non_sequences, blocks, -1, False, name, False, False, recompute=True)


def _steps(rows: Sequence[Tensor], n_steps: Any, label: str) -> Tensor:
    if n_steps is not None:
        return as_tensor(n_steps, "int64") if isinstance(n_steps, int) else OPS["cast"](as_tensor(n_steps), "int64")
    if not rows:
        raise ScanError(f"{label}: without sequences n_steps must be given")
    return reduce(OPS["minimum"], [dim(s, 0) for s in rows])


def _in_blocks(rows: Tensor, total: Tensor, blocks: Tensor, size: int, padding: bool) -> Tensor:
    """The first rows of a sequence, as many as there are steps, with an axis for the block and one for the step."""
    rest = sizes(rows)[1:]
    used = rows[:total]
    if padding:
        used = concatenate([used, zeros([blocks * size - total, *rest], rows.dtype)])
    return reshape(used, [blocks, size, *rest], ndim=rows.ndim + 1)
