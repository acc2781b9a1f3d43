"""``scan``: the loop of Theano's programs."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, TypeGuard

from symtensor.graph import Tensor, as_tensor, constant, leaves, replace, variable
from symtensor.opdef import OPS, describe, dim_of
from symtensor.ops.loop_body import capture, index_variable, keep_sizes, make_body, row_variable
from symtensor.ops.loop_records import LOOP, ROWS, final, steps_run, trace
from symtensor.ops.shaping_axes import dim
from symtensor.shared_variables import SharedVariable
from symtensor.types import TensorType
from symtensor.updates import OrderedUpdates
from symtensor_codegen import dtypes

from .steps import Returned, ScanError, listed, taps_of

WINDOW = 16  # states from further back than this are kept in one array, not in one variable each


def scan(
    fn: Callable[..., Any],
    sequences: Any = None,
    outputs_info: Any = None,
    non_sequences: Any = None,
    n_steps: Any = None,
    truncate_gradient: int = -1,
    go_backwards: bool = False,
    mode: object = None,
    name: str | None = None,
    profile: object = False,
    allow_gc: object = None,
    strict: bool = False,
    return_list: bool = False,
) -> tuple[Any, OrderedUpdates]:
    """Run a step over and over, each time on the next rows of ``sequences`` and on its own earlier results.

    Args:
        fn: the step. It is called once, with variables for the rows of each sequence (one for each tap), then for
            the earlier results of each output that has an initial state (one for each tap), then with
            ``non_sequences``. It returns the outputs (one or a list), and may return beside them, last, updates of
            shared variables (a mapping or a list of pairs) and ``until(condition)``. It may use other variables of
            the program freely.
        sequences: arrays, or dictionaries ``{"input": array, "taps": [...]}``; the step gets ``array[t + tap]``,
            by default ``taps=[0]``. The loop runs to the end of the shortest.
        outputs_info: for each output None (it is not fed back), its initial state, or a dictionary ``{"initial":
            state, "taps": [...]}``; with taps other than ``[-1]`` the initial state has a first axis with as many
            rows as the earliest tap goes back.
        non_sequences: further arguments of the step. What they draw at random is drawn once; draws that a step makes,
            or uses without getting them as arguments, are made anew in every step.
        n_steps: the number of steps (an int or an integer scalar).
        truncate_gradient: gradients go back this many steps from the last (-1: through all).
        go_backwards: go through the sequences from their ends. The outputs are in the order of the steps.
        name: for error messages and pictures.
        strict: refuse a step that uses shared variables which are not in ``non_sequences``.
        return_list: return a list of outputs also where there is one.
        mode, profile, allow_gc: accepted for Theano's programs; a loop is compiled with the function around it.

    Returns:
        The outputs, each stacked over the steps along a new first axis (initial states not included; a list where
        there are several), and the updates of shared variables that the step makes, to be passed to ``function``.
        Random draws inside advance their streams when these updates are passed on. After zero steps outputs are
        empty.

    Raises:
        ValueError: a state's type changes from step to step, taps are wrong, outputs do not match ``outputs_info``,
            or (when run) ``n_steps`` is larger than a sequence.
    """
    return run_scan(
        fn, sequences, outputs_info, non_sequences, n_steps, truncate_gradient, go_backwards, name, strict, return_list
    )


def run_scan(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any,
    n_steps: Any,
    truncate_gradient: int,
    go_backwards: bool,
    name: str | None,
    strict: bool,
    return_list: bool,
    recompute: bool = False,
) -> tuple[Any, OrderedUpdates]:
    """``scan``; ``recompute``: its gradient computes the steps again instead of keeping what they computed."""
    made = _Scan(name or "", go_backwards, recompute)
    for item in listed(sequences):
        made.add_sequence(item)
    infos = listed(outputs_info)
    for item in infos:
        made.add_state(item)
    made.count_steps(n_steps)
    given = [made.fix(as_tensor(x)) for x in listed(non_sequences)]
    arguments = [*made.arguments, *given]
    _check_arguments(fn, arguments, name)
    value = fn(*arguments)
    if value is None:
        raise ScanError(f"scan{_space(name)}: the step returns nothing")
    returned = Returned(value)
    if not infos:
        made.states = [None] * len(returned.outputs)
    if len(returned.outputs) != len(made.states):
        raise ScanError(
            f"scan{_space(name)}: outputs_info describes {len(made.states)} outputs, but the step returns "
            f"{len(returned.outputs)}"
        )
    if strict:
        _refuse_implicit(returned, given, name)
    outputs, updates = made.build(returned, truncate_gradient)
    if not outputs:
        return None if not return_list else [], updates
    return outputs if len(outputs) > 1 or return_list else outputs[0], updates


def _space(name: str | None) -> str:
    return f" {name}" if name else ""


def _check_arguments(fn: Callable[..., Any], arguments: Sequence[Tensor], name: str | None) -> None:
    try:
        takes = signature(fn)
    except ValueError:  # some callables have none
        return
    try:
        takes.bind(*arguments)
    except TypeError as error:
        given = ", ".join(str(a) for a in arguments) or "none"
        raise ScanError(f"scan{_space(name)}: the step does not take its arguments ({given}): {error}") from None


def _refuse_implicit(returned: Returned, given: Sequence[Tensor], name: str | None) -> None:
    allowed = set(leaves(given)) | set(given)
    for leaf in leaves([*returned.outputs, *returned.updates.values()]):
        if isinstance(leaf, SharedVariable) and leaf not in allowed and leaf.default_update is None:
            raise ScanError(
                f"scan{_space(name)}: the step uses the shared variable {describe(leaf)}, which is not in "
                "non_sequences; strict=True forbids that"
            )


def _is_drawn_from(leaf: Tensor) -> TypeGuard[SharedVariable]:
    """Whether a leaf moves on by itself, as the states of random streams do."""
    return isinstance(leaf, SharedVariable) and leaf.default_update is not None


class _State:
    """An output that is fed back: variables for what it was ``1, 2, ...`` steps ago."""

    def __init__(self, initial: Tensor, taps: Sequence[int], label: str) -> None:
        self.taps = taps
        self.depth = max(-t for t in taps)
        self.label = label
        self.windowed = self.depth > WINDOW
        if list(taps) == [-1]:
            self.initial = [initial]
            kind = TensorType(initial.element, initial.type.shape)
            self.variables = [variable(kind, f"{label}[t-1]" if label else None)]
        elif self.windowed:
            self.initial = [self._rows(initial)]
            self.variables = [variable(TensorType(initial.element, (self.depth, *initial.type.shape[1:])), label)]
        else:
            rows = self._rows(initial)
            self.initial = [rows[self.depth - back] for back in range(1, self.depth + 1)]
            self.variables = [
                row_variable(initial, f"{label}[t-{back}]" if label else None) for back in range(1, self.depth + 1)
            ]

    def _rows(self, initial: Tensor) -> Tensor:
        """The rows before the first step."""
        if initial.type.shape[0] == self.depth:
            return initial
        return ROWS.make(initial, constant(self.depth, "int64"), label=self.label, taps=tuple(self.taps))

    def at(self, tap: int, index: Tensor) -> Tensor:
        """The variable for the value at a tap."""
        if self.windowed:
            return self.variables[0][(index + (self.depth + tap)) % self.depth]
        return self.variables[-tap - 1]

    def nexts(self, value: Tensor, index: Tensor) -> list[Tensor]:
        """What the variables are after a step that gave ``value``."""
        if self.windowed:
            from symtensor.ops.indexing import set_subtensor

            return [set_subtensor(self.variables[0][index % self.depth], value)]
        return [value, *self.variables[:-1]]


class _Scan:
    def __init__(self, name: str, go_backwards: bool, recompute: bool) -> None:
        self.name, self.go_backwards, self.recompute = name, go_backwards, recompute
        self.index = index_variable()
        self.sequences: list[Tensor] = []
        self.rows: list[Tensor] = []
        self.states: list[_State | None] = []
        self.arguments: list[Tensor] = []
        self.fixed: dict[Tensor, Tensor] = {}  # what stands in for non-sequences inside
        self.count: Tensor = constant(0, "int64")

    def add_sequence(self, item: Any) -> None:
        """One entry of ``sequences``."""
        taps = [0]
        if isinstance(item, Mapping):
            taps, item = taps_of(item, [0], "input", self.name), item.get("input")
        if item is None:
            raise ScanError(f"scan{_space(self.name)}: a sequence is None")
        whole = as_tensor(item)
        if whole.ndim == 0:
            raise ScanError(f"scan{_space(self.name)}: {describe(whole)} has no axis to run along")
        low, high = min([*taps, 0]), max([*taps, 0])
        for tap in taps:
            start, drop = tap - low, high - tap
            part = whole if start == drop == 0 else whole[start : -drop if drop else None]
            if self.go_backwards:
                part = part[::-1]
            label = whole.name and f"{whole.name}[t{tap:+d}]" if tap else whole.name and f"{whole.name}[t]"
            row = row_variable(part, label)
            self.sequences.append(part)
            self.rows.append(row)
            self.arguments.append(row)

    def add_state(self, item: Any) -> None:
        """One entry of ``outputs_info``."""
        taps = [-1]
        if isinstance(item, Mapping):
            taps, item = taps_of(item, [-1], "initial", self.name), item.get("initial")
        if item is None:
            self.states.append(None)
            return
        initial = as_tensor(item)
        if not taps or any(t >= 0 for t in taps):
            raise ScanError(f"scan{_space(self.name)}: the taps {taps} of an output must be negative")
        if taps != [-1] and initial.ndim == 0:
            raise ScanError(
                f"scan{_space(self.name)}: with taps {taps} the initial state needs a first axis of "
                f"{max(-t for t in taps)} rows; {describe(initial)} is a scalar"
            )
        state = _State(initial, taps, initial.name or "")
        self.states.append(state)
        self.arguments += [state.at(tap, self.index) for tap in taps]

    def fix(self, given: Tensor) -> Tensor:
        """What the step gets for a non-sequence. What is drawn at random outside is drawn once, not in every step."""
        if not given.inputs or not any(_is_drawn_from(leaf) for leaf in leaves([given])):
            return given
        stand_in = variable(TensorType(given.element, given.type.shape), given.name)
        self.fixed[stand_in] = given
        return stand_in

    def count_steps(self, n_steps: Any) -> None:
        """The number of steps: as asked for, or the length of the shortest sequence."""
        if n_steps is not None:
            count = as_tensor(n_steps)
            if count.ndim != 0 or count.element.kind not in "iub":
                raise ScanError(f"scan{_space(self.name)}: n_steps must be an integer scalar, got {count.type}")
            self.count = count if count.element is dtypes.int64 else OPS["cast"].make(count, dtype=dtypes.int64)
            steps = dim_of(self.count)
            if isinstance(steps, int) and steps < 0:
                raise ScanError(f"scan{_space(self.name)}: {steps} steps")
            for k, (s, row) in enumerate(zip(self.sequences, self.rows, strict=True)):
                if s.dims[0] is not steps and s.dims[0] != steps:
                    self.sequences[k] = ROWS.make(s, self.count, label=row.name or "", taps=())
            return
        if not self.sequences:
            raise ScanError(f"scan{_space(self.name)}: without sequences n_steps must be given")
        lengths = [dim(s, 0) for s in self.sequences]
        known = [s.type.shape[0] for s in self.sequences]
        if None not in known:
            self.count = constant(min(k for k in known if k is not None), "int64")
            return
        self.count = lengths[0]
        sizes = [self.sequences[0].dims[0]]
        for length, sequence in zip(lengths[1:], self.sequences[1:], strict=True):
            if sequence.dims[0] not in sizes:
                sizes.append(sequence.dims[0])
                self.count = OPS["minimum"](self.count, length)

    def build(self, returned: Returned, truncate: int) -> tuple[list[Tensor], OrderedUpdates]:
        """The loop, its outputs, and the updates of shared variables."""
        from symtensor.rules import stabilise

        before: list[Tensor] = []
        initial: list[Tensor] = []
        after: list[Tensor] = []
        for state, value in zip(self.states, returned.outputs, strict=True):
            if state is not None:
                before += state.variables
                initial += state.initial
                after += state.nexts(value, self.index)
        inner = [*after, *returned.outputs]
        shared, inner, condition = self._shared(inner, returned)
        before += [variable(TensorType(s.element, s.type.shape), s.name) for s in shared]
        changed: dict[Tensor, Tensor] = dict(zip(shared, before[len(initial) :], strict=True))
        count = len(inner)
        inner += list(shared.values())
        inner += [condition] if condition is not None else []
        inner = replace(inner, changed) if changed else inner
        inner = replace(inner, self.fixed) if self.fixed else inner
        initial += list(shared)
        inner = stabilise(inner, [self.index, *before, *self.rows])
        inner, captured, holes = capture(inner, [self.index, *before, *self.rows])
        after_shared = inner[count : count + len(shared)]
        kept = keep_sizes(before, [*inner[: len(after)], *after_shared], holes)
        same = dict(zip(inner[: len(after)], kept, strict=False))
        body = make_body(
            self.index, tuple(before), tuple(self.rows), tuple(holes), tuple(kept),
            inner[-1] if condition is not None else None, False, truncate, self.name,
            recompute=self.recompute,
        )  # fmt: skip
        loop = LOOP.make(self.count, *initial, *self.sequences, *captured, body=body)
        results = [trace(loop, same.get(node, node)) for node in inner[len(after) : count]]
        if condition is not None:
            results = [r[: steps_run(loop)] for r in results]
        updates = OrderedUpdates()
        for position, s in enumerate(shared):
            updates[s] = final(loop, len(after) + position)
        return results, updates

    def _shared(
        self, inner: list[Tensor], returned: Returned
    ) -> tuple[dict[SharedVariable, Tensor], list[Tensor], Tensor | None]:
        """The shared variables that change from step to step, with their next values."""
        found: dict[SharedVariable, Tensor] = dict(returned.updates)
        pending = [*inner, *found.values(), *([returned.condition] if returned.condition is not None else [])]
        while pending:
            drawn = [s for s in leaves(pending) if _is_drawn_from(s) and s not in found]
            pending = []
            for s in drawn:
                assert s.default_update is not None
                found[s] = s.default_update
                pending.append(s.default_update)
        for s, value in found.items():
            if value.element is not s.element or value.ndim != s.ndim:
                raise ScanError(
                    f"scan{_space(self.name)}: the update of {describe(s)} has type {value.type}; it must have the "
                    "variable's"
                )
        return found, inner, returned.condition
