"""The operations of loops: ``loop`` itself, and what is taken out of one.

``loop(count, *initial states, *sequences, *constants, body=...)`` is an expression with several results. Of these
``trace`` stacks any value inside a step over all steps, ``final`` is a state after the last step, and ``steps_run``
the number of steps. Whatever nobody takes out is not stored.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from symtensor.graph import Params, Tensor, ancestors
from symtensor.opdef import Gradients, Guard, Inferred, OpDef, describe, dim_of, where
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError, InternalError, ShapeError, UserError
from symtensor_codegen.scalar import Dim

from .arguments import nonnegative
from .loop_body import Body, Parts, outer_size, parts
from .shaping_broadcast import changed_state


class StateTypeError(DTypeError, ValueError):
    """A step gives a state another element type; to Theano that is a ValueError."""


class ScanLengthError(UserError, ValueError):
    """More steps are asked for than there are rows, or fewer than none."""


def body_of(node: Tensor) -> Body:
    """The body of a loop."""
    found: Body = node.params["body"]
    return found


def parts_of(node: Tensor) -> Parts:
    """The inputs of a loop by their role."""
    return parts(node.inputs, body_of(node))


def _infer_loop(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    body: Body = params["body"]
    given = parts(inputs, body)
    rows = [(variable, s, 1) for variable, s in zip(body.sequences, given.sequences, strict=True)]
    whole = [
        (variable, s, 0)
        for variable, s in zip(
            (*body.carries, *body.constants), (*given.initial, *given.constants), strict=True
        )
    ]
    for variable, outer, skip in (*rows, *whole):
        if variable.element is not outer.element or variable.ndim != outer.ndim - skip:
            raise InternalError(f"loop {body}: {describe(outer)} does not fit {variable.type}")
    for before, after in zip(body.carries, body.nexts, strict=True):
        _check_state(body, before, after)
    return dtypes.results, ()


def state_label(before: Tensor) -> str:
    """A state in messages."""
    return f"state {before.name!r}" if before.name else "a state"


def _check_state(body: Body, before: Tensor, after: Tensor) -> None:
    name = state_label(before)
    if before.element is not after.element:
        raise StateTypeError(
            f"scan{body.name and ' ' + body.name}: {name} begins as {before.element} but a step makes it "
            f"{after.element}{where(after)}; cast the initial value or the step's result"
        )
    mismatch = before.ndim != after.ndim or any(
        have is not None and want is not None and have != want
        for have, want in zip(before.type.shape, after.type.shape, strict=False)
    )
    if mismatch:
        raise ShapeError(
            f"scan{body.name and ' ' + body.name}: {name} begins as {before.type} but a step makes it "
            f"{after.type}{where(after)}; a state keeps its shape"
        )


def _guards_of_loop(node: Tensor) -> Sequence[Guard]:
    """There are enough rows, states keep their sizes, and what was known about sizes inside is so."""
    body, given = body_of(node), parts_of(node)
    count = dim_of(given.count)
    guards: list[Guard] = []
    if not nonnegative(count):
        _require(guards, scalar.ge(scalar.as_int(count), 0), "scan: {0} steps", (count,), ScanLengthError)
    for variable, sequence in zip(body.sequences, given.sequences, strict=True):
        have = sequence.dims[0]
        if have is not count and have != count:
            label = f"sequence {variable.name!r}" if variable.name else "a sequence"
            _require(
                guards,
                scalar.ge(scalar.as_int(have), scalar.as_int(count)),
                f"scan: {{1}} steps, but {label} has only {{0}} rows",
                (have, count),
                ScanLengthError,
            )
        _require_static(guards, variable, sequence.dims[1:])
    outside = outer_size(body, node.inputs)
    for before, after, initial in zip(body.carries, body.nexts, given.initial, strict=True):
        _require_static(guards, before, initial.dims)
        for axis, (have, want) in enumerate(zip(initial.dims, map(outside, after.dims), strict=True)):
            if have is not want and have != want:
                message = changed_state(state_label(before), axis, after)
                _require(guards, scalar.eq(scalar.as_int(have), scalar.as_int(want)), message, (want, have), ShapeError)
    for variable, constant in zip(body.constants, given.constants, strict=True):
        _require_static(guards, variable, constant.dims)
    return guards


def _require(
    guards: list[Guard], condition: Any, message: str, values: tuple[Dim, ...], error: type[Exception]
) -> None:
    if condition.op is scalar.const_op and condition.param:
        return
    guards.append(Guard(condition, message, values, error))


def _require_static(guards: list[Guard], variable: Tensor, dims: Sequence[Dim]) -> None:
    for axis, (size, have) in enumerate(zip(variable.type.shape, dims, strict=True)):
        if size is not None and not isinstance(have, int):
            message = f"scan: {variable.name or 'an input'} has size {{0}} on axis {axis}, not {size}"
            _require(guards, scalar.eq(scalar.as_int(have), size), message, (have,), ShapeError)


# Rows for a number of steps that the user gave ---------------------------------------------------------------------


def _infer_rows(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x, count = inputs
    steps, have = dim_of(count), x.dims[0]
    if isinstance(steps, int) and steps < 0:
        raise ScanLengthError(f"scan: {steps} steps")
    if isinstance(steps, int) and isinstance(have, int) and have < steps:
        raise ScanLengthError(_too_few(params).format(have, steps))
    return x.element, (steps, *x.dims[1:])


def _too_few(params: Params) -> str:
    if params["taps"]:
        label = f"state {params['label']!r}" if params["label"] else "a state"
        return f"scan: the taps {list(params['taps'])} need {{1}} initial rows, but {label} has only {{0}}"
    label = f"sequence {params['label']!r}" if params["label"] else "a sequence"
    return f"scan: {{1}} steps, but {label} has only {{0}} rows"


def _guards_of_rows(node: Tensor) -> Sequence[Guard]:
    have, steps = node.inputs[0].dims[0], node.dims[0]
    guards: list[Guard] = []
    if not nonnegative(steps):
        _require(guards, scalar.ge(scalar.as_int(steps), 0), "scan: {0} steps", (steps,), ScanLengthError)
    enough = scalar.ge(scalar.as_int(have), scalar.as_int(steps))
    _require(guards, enough, _too_few(node.params), (have, steps), ScanLengthError)
    return guards


def _gradient_of_rows(g: Tensor, node: Tensor) -> Gradients:
    from .creation import zeros_like
    from .indexing import set_subtensor

    x, count = node.inputs
    return set_subtensor(zeros_like(x)[:count], g), None


ROWS: Final = OpDef(
    name="rows",
    doc="The first rows of a sequence, as many as a loop has steps; an error where there are not as many.",
    infer=_infer_rows,
    reference=lambda x, count, label, taps: x[: int(count)],
    gradient=_gradient_of_rows,
    pull=lambda node, at, index: at(0, index),
    guards=_guards_of_rows,
    category="control",
    cases=lambda rng: [
        ((rng.normal(size=(4, 2)), np.int64(3)), {"label": "x", "taps": ()}),
        ((rng.normal(size=2), np.int64(2)), {"label": "", "taps": ()}),
        ((rng.normal(size=(0, 2)), np.int64(0)), {"label": "", "taps": ()}),
    ],
)


# What a loop computes ----------------------------------------------------------------------------------------------


class Steps:
    """What the reference interpreter keeps of a loop: the values in every step, and the last states."""

    def __init__(self, environments: list[Any], finals: list[Any], count: int, body: Body) -> None:
        self.environments, self.finals, self.count = environments, finals, count
        self.backwards, self.carries = body.backwards, body.carries


def environments(
    body: Body, count: int, given: Sequence[Any], inside: Callable[..., Any], last: list[Any]
) -> Iterator[Any]:
    """The reference's values in every step, each before the next step is begun.

    ``given`` are the values of the initial states, sequences and constants; ``inside`` makes an evaluation of values
    of variables; ``last`` becomes the states after the last step.
    """
    carries, sequences = len(body.carries), len(body.sequences)
    last[:] = [np.array(value) for value in given[:carries]]
    rows, constants = given[carries : carries + sequences], given[carries + sequences :]
    for step in range(count):
        position = count - 1 - step if body.backwards else step
        values = {body.index: np.asarray(step)}
        values.update(zip(body.carries, last, strict=True))
        values.update(zip(body.sequences, [r[position] for r in rows], strict=True))
        values.update(zip(body.constants, constants, strict=True))
        environment = inside(values)
        yield environment
        last[:] = [environment.value(node) for node in body.nexts]
        if body.until is not None and bool(environment.value(body.until)):
            break


def _run_loop(count: Any, *given: Any, body: Body, inside: Callable[..., Any]) -> Steps:
    state: list[Any] = []
    return Steps(list(environments(body, int(count), given, inside, state)), state, int(count), body)


def _gradient_of_loop(arrived: Any, node: Tensor, needed: Any) -> Any:
    from symtensor.loops.gradient import pull_back_loop

    return pull_back_loop(arrived, node, needed)


def _sizes_of_loop(node: Tensor) -> Sequence[Dim]:
    """The number of steps, and every size inside (numbers of steps of loops in it are sizes, too)."""
    body = body_of(node)
    outside = outer_size(body, node.inputs)
    found: dict[Dim, None] = {dim_of(parts_of(node).count): None}
    for inner in ancestors(body.outputs):
        further = inner.op.sizes(inner) if inner.op.sizes is not None else ()
        for size in (*inner.dims, *further):
            if not isinstance(size, int):
                try:
                    found[outside(size)] = None
                except ShapeError:  # known inside only
                    continue
    return list(found)


LOOP: Final = OpDef(
    name="loop",
    doc="Run a step over and over; ``trace``, ``final`` and ``steps_run`` take out what it computes.",
    infer=_infer_loop,
    reference=_run_loop,
    gradient=_gradient_of_loop,  # type: ignore[arg-type]  # pull_back calls it for all results at once
    guards=_guards_of_loop,
    sizes=_sizes_of_loop,
    category="control",
)


# Results ----------------------------------------------------------------------------------------------------------


def _infer_trace(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    loop = inputs[0]
    inner: Tensor = params["node"]
    try:
        dims = tuple(map(outer_size(body_of(loop), loop.inputs), inner.dims))
    except ShapeError as error:
        raise ShapeError(f"scan: {error}: {describe(inner)}") from None
    return inner.element, (dim_of(parts_of(loop).count), *dims)


def traced(steps: Steps, node: Tensor, shape: Sequence[int]) -> Any:
    """The reference meaning of ``trace``; rows of steps that did not run are zero."""
    result = np.zeros(shape, node.element.numpy)
    for step, environment in enumerate(steps.environments):
        result[len(result) - 1 - step if steps.backwards else step] = environment.value(node.params["node"])
    return result


def _pass(g: Tensor, node: Tensor) -> Any:
    return (g,)  # ``pull_back`` gathers what arrives at the results of a loop


TRACE: Final = OpDef(
    name="trace",
    doc="A value inside a loop's step, stacked over the steps.",
    infer=_infer_trace,
    gradient=_pass,
    category="control",
)


def _infer_final(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    initial = parts_of(inputs[0]).initial[params["carry"]]
    return initial.element, initial.dims


FINAL: Final = OpDef(
    name="final",
    doc="A loop's state after its last step.",
    infer=_infer_final,
    reference=lambda steps, carry: steps.finals[carry],
    gradient=_pass,
    category="control",
)



def _infer_history(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    given = parts_of(inputs[0])
    initial = given.initial[params["carry"]]
    return initial.element, (scalar.as_dim(scalar.as_int(dim_of(given.count)) + 1), *initial.dims)


def _history(steps: Steps, carry: int) -> Any:
    before = [environment.values[steps.carries[carry]] for environment in steps.environments]
    rows = [*before, steps.finals[carry]]
    result = np.zeros((steps.count + 1, *rows[0].shape), rows[0].dtype)
    for step, row in enumerate(rows):
        result[steps.count - step if steps.backwards else step] = row
    return result


HISTORY: Final = OpDef(
    name="history",
    doc="A loop's state before the first step and after every step (in the order of rows).",
    infer=_infer_history,
    reference=_history,
    category="control",
)

STEPS_RUN: Final = OpDef(
    name="steps_run",
    doc="How many steps a loop ran.",
    infer=lambda inputs, params: (dtypes.int64, ()),
    reference=lambda steps: np.asarray(len(steps.environments)),
    category="control",
)


def trace(loop: Tensor, node: Tensor) -> Tensor:
    """The values of ``node``, an expression inside a step of ``loop``, stacked over the steps."""
    return TRACE.make(loop, node=node)


def history(loop: Tensor, carry: int) -> Tensor:
    """State number ``carry`` of ``loop`` before the first and after every step: one row more than steps."""
    return HISTORY.make(loop, carry=carry)


def final(loop: Tensor, carry: int) -> Tensor:
    """State number ``carry`` of ``loop`` after the last step."""
    return FINAL.make(loop, carry=carry)


def steps_run(loop: Tensor) -> Tensor:
    """The number of steps that ``loop`` ran (int64, 0-d)."""
    return STEPS_RUN.make(loop)
