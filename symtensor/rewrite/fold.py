"""Constant folding, and giving a replacement the sizes of what it replaces."""

from math import prod
from typing import Any

import numpy as np

from symtensor.graph import Tensor, constant
from symtensor.opdef import CONSTANT
from symtensor_codegen.errors import InternalError

from .sizes import sizes_as_tensors

FOLD_LIMIT = 1 << 16  # elements; larger results are computed when the program runs
GROWTH_LIMIT = 1024  # elements a folded constant may have beyond those of its inputs


def folded(node: Tensor) -> Tensor | None:
    """The value of an operation on constants, where it is worth keeping as a constant.

    Operations that make much out of little (broadcasts, ranges) stay; so does what fails, to fail when run.
    """
    if node.op.category == "control" or node.op.reference is None or not all(i.op is CONSTANT for i in node.inputs):
        return None
    shape = node.type.shape
    if None in shape:
        return None
    count = prod([size for size in shape if size is not None])
    if count > FOLD_LIMIT or count > sum(i.data.size for i in node.inputs) + GROWTH_LIMIT:  # type: ignore[attr-defined]
        return None
    if node.op.name in ("broadcast_to", "arange") and count > 1:
        return None
    try:
        with np.errstate(all="ignore"):
            value: Any = node.op.reference(*[i.data for i in node.inputs], **node.params)  # type: ignore[attr-defined]
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    data = np.asarray(value)
    if data.shape != shape:
        raise InternalError(f"{node.op.name}: the reference gives shape {data.shape}, inferred is {shape}")
    return constant(data.astype(node.element.numpy, copy=False))


def conform(new: Tensor, old: Tensor) -> Tensor | None:
    """``new`` with the sizes of ``old``: as it is, broadcast, or None where it would lose a known size.

    Raises:
        InternalError: the element type changed, or an axis appeared.
    """
    if new.element is not old.element:
        raise InternalError(f"a rule turns {old.op.name} of {old.element} into {new.op.name} of {new.element}")
    if new.dims == old.dims:
        return new
    if new.ndim > old.ndim:
        raise InternalError(f"a rule turns {old.op.name} of {old.ndim} axes into {new.op.name} of {new.ndim}")
    broadcast = new.ndim < old.ndim
    for have, want in zip(new.dims[::-1], old.dims[::-1], strict=False):
        if have is want or have == want:
            continue
        if isinstance(have, int) and have == 1:
            broadcast = True
        elif not isinstance(have, int) and isinstance(want, int):
            return None
        elif isinstance(have, int) and isinstance(want, int):
            raise InternalError(f"a rule turns {old.op.name} of sizes {old.dims} into {new.op.name} of {new.dims}")
    if not broadcast:
        return new
    from symtensor.ops.shaping import broadcast_sizes

    return broadcast_sizes(new, sizes_as_tensors(old.dims))
