"""What the step function of ``scan`` is given, and what it may return."""

from collections.abc import Mapping, Sequence
from typing import Any

from symtensor.graph import Tensor, as_tensor
from symtensor.shared_variables import SharedVariable
from symtensor_codegen import dtypes
from symtensor_codegen.errors import UserError


class ScanError(UserError, ValueError, TypeError):
    """A loop is not well formed."""


class until:
    """Returned last by a step: the loop ends after the step in which ``condition`` (0-d) is true."""

    def __init__(self, condition: Any) -> None:
        self.condition = as_tensor(condition)
        if self.condition.ndim != 0:
            raise ScanError(f"until: the condition must be a scalar, got {self.condition.type}")
        if self.condition.element is not dtypes.bool_:
            from symtensor.opdef import OPS

            self.condition = OPS["neq"](self.condition, 0)


def listed(value: Any) -> list[Any]:
    """One or several arguments as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def is_updates(value: Any) -> bool:
    """Whether a step's result is a mapping, or a list of pairs, from shared variables to their next values."""
    if isinstance(value, Mapping):
        return True
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value)
        and all(isinstance(pair[0], SharedVariable) for pair in value)
    )


class Returned:
    """A step's result taken apart: ``outputs``, ``updates`` of shared variables, and ``condition`` to stop."""

    def __init__(self, value: Any) -> None:
        self.outputs: list[Tensor] = []
        self.updates: dict[SharedVariable, Tensor] = {}
        self.condition: Tensor | None = None
        self._take(value, top=True)

    def _take(self, value: Any, top: bool) -> None:
        if value is None:
            return
        if isinstance(value, until):
            self.condition = value.condition
        elif is_updates(value):
            self._update(value)
        elif isinstance(value, (list, tuple)):
            special = [v for v in value if isinstance(v, until) or is_updates(v)]
            if top and special:
                for part in value:
                    self._take(part, top=False)
            else:
                self.outputs += [as_tensor(v) for v in value]
        else:
            self.outputs.append(as_tensor(value))

    def _update(self, value: Any) -> None:
        for variable, after in value.items() if isinstance(value, Mapping) else value:
            if not isinstance(variable, SharedVariable):
                raise ScanError(f"scan: a step can update shared variables only, not {variable!r}")
            self.updates[variable] = as_tensor(after)


_IGNORED = ("inplace", "return_steps")  # of older programs: the compiler decides what is kept and where


def taps_of(spec: Mapping[str, Any], default: Sequence[int], key: str, name: str) -> list[int]:
    """The taps of a dictionary in ``sequences`` (of which ``key`` is "input") or ``outputs_info`` ("initial")."""
    unknown = [k for k in spec if k not in (key, "taps", *_IGNORED)]
    if unknown:
        raise ScanError(
            f"scan{name and ' ' + name}: unknown key {unknown[0]!r} in a dictionary that may have {key!r} and 'taps'"
        )
    taps = spec.get("taps")
    if taps is None:
        return list(default)
    return [int(t) for t in taps] if isinstance(taps, (list, tuple)) else [int(taps)]
