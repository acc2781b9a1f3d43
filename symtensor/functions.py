"""``function``: expressions compiled into a callable."""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from .arguments import as_inputs, as_outputs, as_updates, check_complete, check_used, fitted, pairs
from .compiled_function import Definition, Function, function_of, shared_of
from .devices import CPU, chosen
from .graph import Tensor, ancestors, replace
from .modes import ModeRecord, mode_of
from .opdef import INPUT, describe
from .ops.printed import PRINT
from .settings import config
from .shared_variables import SharedVariable


def function(
    inputs: Any = None,
    outputs: Any = None,
    updates: Any = None,
    givens: Any = None,
    no_default_updates: bool | Sequence[SharedVariable] = False,
    accept_inplace: bool = False,
    name: str | None = None,
    mode: str | ModeRecord | None = None,
    on_unused_input: str | None = None,
    allow_input_downcast: bool | None = None,
    profile: bool | None = None,
    rebuild_strict: bool = True,
    device: str | None = None,
    results: str | None = None,
) -> Any:
    """Compile expressions into a callable.

    Args:
        inputs: list of variables or In records, the arguments of the callable. An expression among them stands for
            its value: what it is computed from is not looked at.
        outputs: an expression, a list of them (a list is returned), a dict with string keys, or None.
        updates: dict or list of pairs (shared variable, its next value). All next values are computed from
            the old ones, and the outputs too.
        givens: dict or list of pairs (variable, replacement): replaced in outputs and updates before
            compiling.
        no_default_updates: do not apply the default updates of shared variables (random streams), or of those
            listed.
        accept_inplace: accepted for Theano's sake; there are no in-place operations to refuse.
        name: for messages and profiles.
        mode: ``"fast_run"``, ``"fast_compile"``, ``"debug"``, ``"nan_guard"`` or ``"reference"`` (see
            ``modes``).
        on_unused_input: ``"raise"``, ``"warn"`` or ``"ignore"``.
        allow_input_downcast: convert arguments even where precision is lost.
        profile: measure the time of every kernel (``f.profile``).
        rebuild_strict: accepted for Theano's sake; replacements of ``givens`` must have the type of what they
            replace.
        device: where it runs: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default on the device that its shared variables
            are on, else on ``config.device``. With an architecture, ``"cuda:sm_90"``, its code is compiled and can be
            read (``f.source("cuda")``), without a GPU, but not called.
        results: ``"device"`` leaves all results on the device of the function, as ``Out(..., borrow=True)`` does one;
            ``"host"`` (the default) copies them to NumPy arrays.

    Returns:
        A Function: called with one array (or what NumPy makes one of) per input, it returns arrays.
    """
    record = mode_of(config.mode if mode is None else mode)
    given_inputs = as_inputs(inputs, allow_input_downcast)
    given_outputs, kind, keys = as_outputs(outputs)
    expressions = [given.variable for given in given_outputs]
    if results not in (None, "host", "device"):
        raise ValueError(f"function: results takes 'host' or 'device', not {results!r}")
    stays = tuple(given.borrow or results == "device" for given in given_outputs)
    all_updates = as_updates(updates)
    replacements = {}
    for key, value in pairs(givens, "givens"):
        if not isinstance(key, Tensor):
            raise TypeError(f"function: givens replace variables, not {key!r}")
        replacements[key] = fitted(key, value, f"givens: replacement of {describe(key)}")
    targets = [key for key, _ in all_updates]
    everything = [*expressions, *[value for _, value in all_updates]]
    if replacements:
        everything = replace(everything, replacements)
    cut = {i.variable: i.variable.type(i.variable.name) for i in given_inputs if i.variable.op is not INPUT}
    if cut:
        everything = replace(everything, cut)
        given_inputs = [i.of(cut[i.variable]) if i.variable in cut else i for i in given_inputs]
    if no_default_updates is not True:
        kept = () if no_default_updates is False else no_default_updates
        defaults = _default_updates(everything, targets, kept, {**replacements, **cut})
        targets += [key for key, _ in defaults]
        everything += [value for _, value in defaults]
    reached = ancestors(everything)
    check_complete([n for n in reached if not n.inputs], given_inputs)
    check_used(given_inputs, set(reached), on_unused_input or config.on_unused_input)
    count = len(expressions)
    made = function_of(
        Definition(
            name or "function",
            tuple(given_inputs),
            tuple(everything[:count]),
            tuple(zip(targets, everything[count:], strict=True)),
            kind,
            keys,
            record,
            bool(config.profile if profile is None else profile),
            tuple(node for node in reached if node.op is PRINT),
            place(record, device, [*shared_of(everything), *targets]),
            stays if any(stays) else (),
        )
    )
    if os.environ.get("SYMTENSOR_DUMP"):
        from .dump import dump

        dump(made)
    return made


def place(mode: ModeRecord, device: Any, variables: Sequence[SharedVariable]) -> str:
    """The device of a function; the reference computes here, wherever its variables are."""
    found = chosen(device, variables, "function")
    return CPU if mode.runs == "reference" else found


def _default_updates(
    outputs: Sequence[Tensor],
    targets: Sequence[SharedVariable],
    without: Sequence[SharedVariable],
    replacements: Mapping[Tensor, Tensor],
) -> list[tuple[SharedVariable, Tensor]]:
    """Default updates of the shared variables used, and of those that these updates use in turn.

    ``replacements`` are made in them as in the outputs: how far a random stream moves on depends on sizes.
    """
    found: dict[SharedVariable, Tensor] = {}
    pending = list(outputs)
    while pending:
        new = [
            s for s in shared_of(pending)
            if s.default_update is not None and s not in found and s not in targets and s not in without
        ]  # fmt: skip
        pending = []
        for variable in new:
            assert variable.default_update is not None
            (following,) = replace([variable.default_update], replacements)
            found[variable] = fitted(variable, following, f"default update of {variable.name}")
            pending.append(found[variable])
    return list(found.items())


# Evaluation -------------------------------------------------------------------------------------------

EVALUATIONS = 64  # functions that ``eval`` keeps

_evaluations: OrderedDict[tuple[Any, ...], Function] = OrderedDict()


def evaluated(expression: Tensor, values: Mapping[Any, Any]) -> Any:
    """The value of an expression for values of its inputs, given by variable or name.

    The function compiled for it is kept for the next time; the least recently used of many are forgotten.
    """
    named = {leaf.name: leaf for leaf in ancestors([expression]) if leaf.name} if values else {}
    given: dict[Any, Any] = {}
    for key, value in values.items():
        if isinstance(key, str) and key not in named:
            raise ValueError(
                f"eval: the expression depends on nothing called {key!r}; there are: {', '.join(named)}"
            )
        given[named[key] if isinstance(key, str) else key] = value
    settings = (config.mode, config.fast_math, config.device, config.matmul_precision)
    key = (expression, *given, settings)
    found = _evaluations.pop(key, None)
    if found is None:
        found = function(list(given), expression, name="eval")
        if len(_evaluations) >= EVALUATIONS:
            _evaluations.popitem(last=False)
    _evaluations[key] = found
    return found(*given.values())


def forget_evaluations(variable: SharedVariable) -> None:
    """Forget the functions kept for ``eval`` that use a shared variable."""
    for key in [key for key, found in _evaluations.items() if variable in found.get_shared()]:
        del _evaluations[key]


__all__ = ["Function", "evaluated", "function"]
