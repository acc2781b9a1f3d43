"""Copies of expressions with parts exchanged: ``clone``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from symtensor_codegen.errors import DTypeError, ShapeError

from . import graph
from .graph import Tensor, as_tensor, leaves, variable
from .opdef import INPUT, OPS, describe


def clone(
    output: Tensor | Sequence[Tensor] | Mapping[Any, Tensor],
    replace: Mapping[Tensor, Any] | Iterable[tuple[Tensor, Any]] | None = None,
    strict: bool = True,
    share_inputs: bool = True,
) -> Any:
    """The expressions with some variables replaced.

    Nodes are immutable and equal ones are one object, so whatever does not depend on a replaced variable is
    shared with the original, and a clone without replacements is the original itself.

    Args:
        output: an expression, or a list, tuple or dictionary of them.
        replace: what stands for which variables (any nodes): a mapping or pairs. Replacements may use the
            replaced variables; they are not replaced inside of them.
        strict: a replacement must have its variable's type; otherwise it is converted to the variable's
            element type and only the number of dimensions must agree.
        share_inputs: keep the input variables; otherwise those that are not replaced become new ones.

    Returns:
        As ``output``.

    Raises:
        TypeError: a replacement does not have the type it needs.
    """
    keys = list(output) if isinstance(output, Mapping) else None
    outputs = _listed(list(output.values()) if isinstance(output, Mapping) else output)
    pairs = list(replace.items() if isinstance(replace, Mapping) else replace or ())
    exchanged = {old: replacement(old, new, strict) for old, new in pairs}
    if not share_inputs:
        for leaf in leaves(outputs):
            if leaf.op is INPUT and leaf not in exchanged:
                exchanged[leaf] = _fresh(leaf)
    results = graph.replace(outputs, exchanged)
    if keys is not None:
        return dict(zip(keys, results, strict=True))
    if isinstance(output, tuple):
        return tuple(results)
    return results if isinstance(output, list) else results[0]


def replacement(old: Tensor, new: Any, strict: bool = True) -> Tensor:
    """What may stand for ``old``: the value as an expression of a suitable type.

    Raises:
        TypeError: it has another number of dimensions or, where ``strict``, another element type.
        ShapeError: a size of ``old`` that is known is not known to be the replacement's.
    """
    if not isinstance(old, Tensor):
        raise TypeError(f"clone: what is replaced must be a variable, got {type(old).__name__}: {old!r}")
    value = as_tensor(new)
    if value.ndim != old.ndim:
        raise TypeError(
            f"clone: {describe(value)} cannot stand for {describe(old)}: the numbers of dimensions differ"
        )
    if value.element is not old.element:
        if strict:
            raise DTypeError(
                f"clone: {describe(value)} cannot stand for {describe(old)}: the element types differ; "
                "convert it "
                "with cast(), or pass strict=False"
            )
        value = OPS["cast"].make(value, dtype=old.element)
    if any(a is not None and a != b for a, b in zip(old.type.shape, value.type.shape, strict=True)):
        raise ShapeError(
            f"clone: {describe(value)} cannot stand for {describe(old)}: its size is not known to be the "
            "same; "
            "state it with specify_shape()"
        )
    return value


def _fresh(leaf: Tensor) -> Tensor:
    made = variable(leaf.type, leaf.name)
    made._site = leaf._site
    made.__dict__.update({key: value for key, value in leaf.__dict__.items() if key not in made.__dict__})
    return made


def _listed(value: Any) -> list[Tensor]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    for v in values:
        if not isinstance(v, Tensor):
            raise TypeError(f"clone: the outputs must be expressions, got {type(v).__name__}: {v!r}")
    return values
