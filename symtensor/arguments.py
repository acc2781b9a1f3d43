"""Arguments of ``function`` in Theano's forms: inputs with defaults, outputs, updates and givens."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from symtensor_codegen.errors import UserError

from .graph import Tensor, as_tensor
from .opdef import CONSTANT, INPUT, describe, where
from .shared_variables import SharedVariable, converted


class UnusedInputError(UserError, ValueError):
    """A function was given an input that no output or update depends on."""


class MissingInputError(UserError, ValueError):
    """An output depends on a variable that is not among the function's inputs."""


class UpdateError(UserError, TypeError):
    """An update does not fit its shared variable."""


class In:
    """An input of a function, with a default value, a name for keyword calls, and conversion rules.

    ``strict``: the argument must be a NumPy array of the input's element type, nothing is converted.
    ``allow_downcast``: it is converted even where precision is lost. ``update`` is not supported (use a shared
    variable); ``mutable`` and ``borrow`` are accepted: inputs are never changed here.
    """

    def __init__(
        self,
        variable: Tensor,
        name: str | None = None,
        value: Any = None,
        update: Any = None,
        mutable: bool | None = None,
        strict: bool = False,
        allow_downcast: bool | None = None,
        autoname: bool = True,
        implicit: bool | None = None,
        borrow: bool | None = None,
    ) -> None:
        if update is not None:
            raise UserError(
                "In(update=...) is not supported: use a shared variable and function(updates=...)"
            )
        self.variable = variable
        self.name = name if name is not None else (variable.name if autoname else None)
        self.value = value
        self.strict = strict
        self.allow_downcast = allow_downcast

    def of(self, variable: Tensor) -> "In":
        """The same input for another variable."""
        return In(variable, self.name, self.value, strict=self.strict, allow_downcast=self.allow_downcast)


class Out:
    """An output of a function; with ``borrow`` the result of a function on a device stays there.

    It is a device array then, which NumPy copies when it needs it. Results are new arrays in any case.
    """

    def __init__(self, variable: Tensor, borrow: bool = False) -> None:
        self.variable = variable
        self.borrow = borrow


def as_inputs(inputs: Iterable[Any] | None, allow_downcast: bool | None) -> list[In]:
    """Inputs as ``In`` objects, checked.

    Raises:
        TypeError: something that cannot be an input (a shared variable, a constant, a list).
        ValueError: the same variable or name twice.
    """
    if inputs is None:
        return []
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(f"function: inputs must be a list or tuple of variables, not {type(inputs).__name__}")
    result: list[In] = []
    seen: set[Tensor] = set()
    for position, given in enumerate(inputs):
        one = given if isinstance(given, In) else None
        variable = one.variable if one is not None else given
        if isinstance(variable, SharedVariable):
            raise TypeError(
                f"function: input {position} ({describe(variable)}) is a shared variable; leave it out of "
                "the inputs: functions use shared variables implicitly (to replace its value, use givens)"
            )
        if not isinstance(variable, Tensor):
            raise TypeError(f"function: input {position} must be a variable, not {variable!r}")
        if variable.op is CONSTANT:
            raise TypeError(f"function: input {position} is the constant {variable!r}")
        if variable in seen:
            raise ValueError(f"function: the input {describe(variable)} is given twice")
        seen.add(variable)
        made = copy(one) if one is not None else In(variable)
        if made.allow_downcast is None:
            made.allow_downcast = allow_downcast
        if made.value is not None:
            what = f"function: default value of the input {describe(variable)}"
            converted(made.value, variable.type, what, made.allow_downcast, strict=made.strict)
        result.append(made)
    return result


def as_outputs(outputs: Any) -> tuple[list[Out], str, tuple[Any, ...]]:
    """Outputs as a list, the kind of result (single, list, dict, none), and the keys of a dict."""
    if outputs is None:
        return [], "none", ()
    if isinstance(outputs, dict):
        for key in outputs:
            if not isinstance(key, str):
                raise TypeError(f"function: keys of a dict of outputs must be strings, not {key!r}")
        keys = tuple(sorted(outputs))
        return [_output(outputs[k]) for k in keys], "dict", keys
    if isinstance(outputs, (list, tuple)):
        return [_output(o) for o in outputs], "list", ()
    return [_output(outputs)], "single", ()


def _output(given: Any) -> Out:
    borrow = False
    if isinstance(given, Out):
        given, borrow = given.variable, given.borrow
    if isinstance(given, (str, bytes)) or given is None:
        raise TypeError(f"function: an output must be an expression, not {given!r}")
    return Out(as_tensor(given), borrow)


def pairs(given: Any, what: str) -> list[tuple[Any, Any]]:
    """A dict, or a list or tuple of pairs, as a list of pairs; a key given twice is an error."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        found = list(given.items())
    else:
        found = []
        for item in given:
            if not isinstance(item, (list, tuple)) or len(item) != 2:
                raise TypeError(f"function: {what} must be a dict or a list of pairs, got {item!r}")
            found.append((item[0], item[1]))
    seen: set[int] = set()
    for key, _ in found:
        if id(key) in seen:
            raise ValueError(f"function: {what}: {key!r} is given twice")
        seen.add(id(key))
    return found


def as_updates(updates: Any) -> list[tuple[SharedVariable, Tensor]]:
    """Updates as pairs of a shared variable and an expression of its type.

    Raises:
        TypeError: a key is no shared variable.
        UpdateError: the expression has another element type or rank, or drops a size that is fixed.
    """
    result: list[tuple[SharedVariable, Tensor]] = []
    for key, value in pairs(updates, "updates"):
        if not isinstance(key, SharedVariable):
            raise TypeError(f"function: updates are for shared variables, not for {key!r}")
        result.append((key, fitted(key, value, f"update of {key.name or 'a shared variable'}")))
    return result


def fitted(target: Tensor, value: Any, what: str) -> Tensor:
    """``value`` as an expression of the type of ``target``: numbers and arrays are converted if they fit."""
    if not isinstance(value, Tensor):
        node = as_tensor(value)
        if node.element is not target.element:
            node = as_tensor(converted(value, target.type, what))
    else:
        node = value
    ours, theirs = target.type, node.type
    agrees = ours.element is theirs.element and ours.ndim == theirs.ndim
    if agrees:
        agrees = all(a is None or b is None or a == b for a, b in zip(ours.shape, theirs.shape, strict=True))
        agrees = agrees and all(b == 1 for a, b in zip(ours.shape, theirs.shape, strict=True) if a == 1)
    if not agrees:
        advice = _advice(target, node)
        raise UpdateError(
            f"{what}: the new value must have the type {ours}, got {theirs}{where(node)}; {advice}"
        )
    return node


def _advice(target: Tensor, node: Tensor) -> str:
    if node.element is not target.element:
        return f"cast it: T.cast(value, {target.dtype!r})"
    if node.ndim != target.ndim:
        return "give it the rank of the variable (dimshuffle, reshape or sum)"
    return "see T.unbroadcast and T.addbroadcast for the sizes that broadcast"


def check_used(inputs: Sequence[In], used: set[Tensor], policy: str) -> None:
    """Raise, warn or say nothing about inputs that nothing depends on."""
    import warnings

    if policy not in ("raise", "warn", "ignore"):
        raise ValueError(f"function: on_unused_input takes 'raise', 'warn' or 'ignore', not {policy!r}")
    for position, given in enumerate(inputs):
        if given.variable not in used and policy != "ignore":
            message = (
                f"function: input {position} ({describe(given.variable)}) is not used by any output or "
                "update; remove it, or pass on_unused_input='ignore'"
            )
            if policy == "raise":
                raise UnusedInputError(message)
            warnings.warn(message, stacklevel=4)


def check_complete(leaves: Iterable[Tensor], inputs: Sequence[In]) -> None:
    """Raise for variables that are no inputs."""
    given = {i.variable for i in inputs}
    for leaf in leaves:
        if leaf.op is INPUT and leaf not in given:
            raise MissingInputError(
                f"function: an output depends on the variable {describe(leaf)}, which is not among the "
                "inputs; add it to inputs, or give it a value with givens"
            )
