"""Matching one spelling of a row against a node, and building the right side."""

from typing import Any

import numpy as np

from symtensor.graph import Constant, Tensor, constant
from symtensor.opdef import CONSTANT, OPS
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError

from .conditions import Condition, uniform
from .pattern import Apply, Bindings, Compute, Const, Hole, Literal, Param, Pattern, Rest

_OP, _HOLE, _SAME, _CONST, _LITERAL, _REST, _PARAM, _VALUE = range(8)


class Matcher:
    """A row with the operands of its commutative operations in one order, as a list of steps.

    Calling it with a node gives the replacement, or None where the row does not apply.
    """

    __slots__ = ("condition", "name", "right", "steps")

    def __init__(self, name: str, left: Apply, right: Pattern, condition: Condition | None) -> None:
        self.name, self.right, self.condition = name, right, condition
        self.steps = _steps(left)

    def match(self, node: Tensor) -> dict[Hole | Param, Any] | None:
        """What each hole stands for, or None."""
        slots: list[Tensor] = [node]
        found: dict[Hole | Param, Any] = {}
        for code, slot, what, extra in self.steps:
            at = slots[slot]
            if code == _OP:
                if at.op.name != what or len(at.inputs) < extra[0] or (len(at.inputs) != extra[0] and not extra[1]):
                    return None
                if len(at.params) != extra[2]:
                    return None
                slots.extend(at.inputs[: extra[0]])
            elif code == _HOLE:
                found[what] = at
            elif code == _LITERAL:
                if uniform(at) != what:
                    return None
            elif code == _SAME:
                if found[what] is not at:
                    return None
            elif code == _CONST:
                if at.op is not CONSTANT:
                    return None
                found[what] = at
            elif code == _PARAM:
                value = at.params[extra]
                if found.setdefault(what, value) != value:
                    return None
            elif code == _VALUE:
                if at.params[extra] != what:
                    return None
            else:
                rest = at.inputs[extra:]
                if found.setdefault(what, rest) != rest:
                    return None
        if self.condition is not None and not self.condition(found):
            return None
        return found

    def __call__(self, node: Tensor) -> Tensor | None:
        """The right side for this node, or None where the row does not apply."""
        found = self.match(node)
        return None if found is None else instantiate(self.right, found, node.element)


def _steps(left: Apply) -> tuple[tuple[int, int, Any, Any], ...]:
    """Instructions: operations first (they fill the slots), then comparisons, parameters and holes."""
    structure: list[tuple[int, int, Any, Any]] = []
    leaves: list[tuple[int, int, Any, Any]] = []
    bound: set[Hole] = set()
    waiting: list[tuple[Pattern, int]] = [(left, 0)]
    free = 1
    for pattern, slot in waiting:  # grows while it runs: breadth first, the order in which slots are filled
        if isinstance(pattern, Apply):
            variadic = bool(pattern.arguments) and isinstance(pattern.arguments[-1], Rest)
            fixed = pattern.arguments[:-1] if variadic else pattern.arguments
            structure.append((_OP, slot, pattern.op, (len(fixed), variadic, len(pattern.params))))
            for argument in fixed:
                waiting.append((argument, free))
                free += 1
            if variadic:
                leaves.append((_REST, slot, pattern.arguments[-1], len(fixed)))
            for name, value in pattern.params.items():
                leaves.append((_PARAM if isinstance(value, Param) else _VALUE, slot, value, name))
        elif isinstance(pattern, Literal):
            structure.append((_LITERAL, slot, pattern.value, None))
        elif isinstance(pattern, Hole):
            code = _SAME if pattern in bound else _CONST if isinstance(pattern, Const) else _HOLE
            bound.add(pattern)
            (leaves if code == _HOLE else structure).append((code, slot, pattern, None))
    binding = [step for step in leaves if step[0] == _HOLE]
    late = [step for step in structure if step[0] == _SAME]
    early = [step for step in structure if step[0] != _SAME]
    return (*early, *binding, *late, *[step for step in leaves if step[0] != _HOLE])


def instantiate(pattern: Pattern, found: Bindings, element: DType) -> Tensor:
    """The tensor a right side stands for; ``element`` is the type of a literal that has no neighbours."""
    if isinstance(pattern, Hole):
        return found[pattern]  # type: ignore[no-any-return]
    if isinstance(pattern, Literal):
        return literal(pattern.value, element)
    if not isinstance(pattern, Apply):
        raise InternalError(f"{pattern!r} cannot be built")
    made: list[Tensor | None] = []
    for argument in pattern.arguments:
        if isinstance(argument, Rest):
            made.extend(found[argument])
        else:
            made.append(None if isinstance(argument, Literal) else instantiate(argument, found, element))
    neighbours = [m for m in made if m is not None]
    kind = neighbours[-1].element if neighbours else element
    inputs = [
        m if m is not None else literal(pattern.arguments[k].value, kind)  # type: ignore[attr-defined]
        for k, m in enumerate(made)
    ]
    params = {k: found[v] if isinstance(v, Param) else v(found) if isinstance(v, Compute) else v
              for k, v in pattern.params.items()}  # fmt: skip
    return OPS[pattern.op].make(*inputs, **params)


def literal(value: Any, element: DType) -> Constant:
    """The 0-d constant of this value and type; it must be representable."""
    data = np.asarray(value).astype(element.numpy)
    if element.is_integer and data.item() != value:
        raise InternalError(f"a rule needs {value!r} as {element}")
    return constant(data)
