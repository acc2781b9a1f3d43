"""``function``: expressions compiled into a callable."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


from symtensor_codegen.llvm.calling import (
    IN_PLACE,
    RETURN,
    SWAP,
    CallSpec,
    InputSpec,
    OutputSpec,
    attach,
    bind_call,
)

from .arguments import In, as_inputs, as_outputs, as_updates, check_complete, check_used, fitted, pairs
from .settings import config
from .failures import failure
from .graph import Tensor, ancestors, replace
from .lower.plan import Result
from .opdef import SHARED
from .pipeline import FAST_MATH, GRAPH_PASSES, QUICK_PASSES, Compilation, compile_graph
from .shared_variables import SharedVariable, converted


class Function:
    """A compiled function: call it with arrays for its inputs, by position or name.

    ``inputs`` are its In records, ``outputs`` the expressions it returns, ``updates`` the pairs of a shared variable
    and its next value. ``compilation`` holds what each stage of the compiler made.
    """

    name: str
    inputs: tuple[In, ...]
    outputs: tuple[Tensor, ...]
    updates: tuple[tuple[SharedVariable, Tensor], ...]
    compilation: Compilation

    def __init__(
        self,
        name: str,
        inputs: Sequence[In],
        outputs: Sequence[Tensor],
        updates: Sequence[tuple[SharedVariable, Tensor]],
        kind: str,
        keys: tuple[Any, ...],
        mode: str,
    ) -> None:
        self.name, self.mode = name, mode
        self.inputs, self.outputs, self.updates = tuple(inputs), tuple(outputs), tuple(updates)
        self._kind, self._keys = kind, keys
        passes = QUICK_PASSES if mode == "fast_compile" else GRAPH_PASSES
        if config.fast_math:
            passes = (*passes, FAST_MATH)
        cells = shared_of([*outputs, *[value for _, value in updates], *[key for key, _ in updates]])
        results = [Result(o) for o in outputs]
        results += [Result(value, cells.index(key)) for key, value in updates]
        self.compilation = compile_graph(name, [i.variable for i in inputs], cells, results, passes)
        self._cells = tuple(cells)
        attach(self, self._spec())

    def _spec(self) -> CallSpec:
        plan = self.compilation.plan
        from symtensor_codegen.llvm.cells import Cell

        held = [c.cell for c in self._cells] + [Cell(c.data) for c in plan.constants]
        outputs: list[OutputSpec] = []
        for position, output in enumerate(plan.program.outputs):
            dtype, rank = output.buffer.dtype.numpy, len(output.buffer.dims)
            if output.cell is None:
                outputs.append(OutputSpec(dtype, rank, RETURN, position))
            else:
                outputs.append(OutputSpec(dtype, rank, IN_PLACE if output.in_place else SWAP, output.cell))
        messages = plan.program.messages
        finish: Callable[[list[Any]], Any] | None = None
        if self._kind == "dict":
            keys = self._keys

            def finish(values: list[Any]) -> dict[str, Any]:
                return dict(zip(keys, values, strict=True))

        name = self.name

        def fail(status: int, details: tuple[int, int, int, int]) -> BaseException:
            return failure(name, messages[status - 1], details)

        return CallSpec(
            name=name,
            inputs=tuple(InputSpec(i.variable.element.numpy, i.variable.type.shape) for i in self.inputs),
            cells=tuple(held),
            outputs=tuple(outputs),
            program=self.compilation.native.address,
            slow_path=self._arguments,
            fail=fail,
            result="single" if self._kind == "single" else "list",
            finish=finish,
            keep=(self.compilation.native,),
        )

    def _arguments(self, *args: Any, **named: Any) -> tuple[Any, ...]:
        """Arguments converted to arrays that fit the inputs exactly."""
        if len(args) > len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} arguments, got {len(args)}")
        values: dict[int, Any] = dict(enumerate(args))
        for key, value in named.items():
            found = [k for k, i in enumerate(self.inputs) if i.name == key]
            if not found:
                names = ", ".join(str(i.name) for i in self.inputs) or "none"
                raise TypeError(f"{self.name} has no input called {key!r}; its inputs are: {names}")
            if found[0] in values:
                raise TypeError(f"{self.name} got two values for the input {key!r}")
            values[found[0]] = value
        result = []
        for position, given in enumerate(self.inputs):
            label = given.name or f"number {position}"
            if position in values:
                value = values[position]
            elif given.value is not None:
                value = given.value
            else:
                raise TypeError(f"{self.name}: the input {label} ({given.variable.type}) is missing")
            if isinstance(value, SharedVariable):
                raise TypeError(f"{self.name}: the input {label} got a shared variable; pass its get_value()")
            what = f"{self.name}: input {label}"
            array = converted(value, given.variable.type, what, bool(given.allow_downcast))
            for axis, size in enumerate(given.variable.type.shape):
                if size is not None and array.shape[axis] != size:
                    from symtensor_codegen.errors import ShapeError

                    raise ShapeError(f"{what}: axis {axis} must have size {size}, got shape {array.shape}")
            result.append(array)
        return tuple(result)

    def get_shared(self) -> list[SharedVariable]:
        """The shared variables that the function reads or updates."""
        return list(self._cells)

    def source(self, language: str = "llvm") -> str:
        """The generated code: ``"kernels"`` (loop nests), ``"program"`` (host steps), ``"llvm"`` or ``"asm"``."""
        return str(self.compilation.native.source(language))

    def explain(self) -> str:
        """What each pass of the compiler did: a row per pass with nodes, milliseconds and the rules that fired."""
        from .report import explanation

        return explanation(self.compilation)

    @property
    def memory(self) -> str:
        """The memory plan: each buffer of a call with its size and place."""
        from .report import memory

        return memory(self.compilation)

    @property
    def stages(self) -> Mapping[str, str]:
        """The graph after each pass of the compiler, as text."""
        from .printing import debugprint

        return {s.name: str(debugprint(list(s.outputs), file="str")) for s in self.compilation.stages}

    def __repr__(self) -> str:
        names = ", ".join(str(i.name or "_") for i in self.inputs)
        return f"<function {self.name}({names}), {len(self.outputs)} outputs, {len(self.updates)} updates>"


def shared_of(outputs: Sequence[Tensor]) -> list[SharedVariable]:
    """The shared variables that expressions depend on, in order of first use."""
    return [n for n in ancestors(outputs) if n.op is SHARED and isinstance(n, SharedVariable)]


def function(
    inputs: Any = None,
    outputs: Any = None,
    updates: Any = None,
    givens: Any = None,
    no_default_updates: bool | Sequence[SharedVariable] = False,
    accept_inplace: bool = False,
    name: str | None = None,
    mode: str | None = None,
    on_unused_input: str | None = None,
    allow_input_downcast: bool | None = None,
    profile: bool | None = None,
    rebuild_strict: bool = True,
) -> Any:
    """Compile expressions into a callable.

    Args:
        inputs: list of variables or In records, the arguments of the callable.
        outputs: an expression, a list of them (a list is returned), a dict with string keys, or None.
        updates: dict or list of pairs (shared variable, its next value). All next values are computed from the old
            ones, and the outputs too.
        givens: dict or list of pairs (variable, replacement): replaced in outputs and updates before compiling.
        no_default_updates: do not apply the default updates of shared variables (random streams), or of those listed.
        name: for messages and profiles.
        mode: ``"fast_run"``, ``"fast_compile"``, ``"debug"``, ``"nan_guard"`` or ``"reference"``.
        on_unused_input: ``"raise"``, ``"warn"`` or ``"ignore"``.
        allow_input_downcast: convert arguments even where precision is lost.
        profile: measure the time of every kernel.

    Returns:
        A Function: called with one array (or what NumPy makes one of) per input, it returns arrays.
    """
    given_inputs = as_inputs(inputs, allow_input_downcast)
    expressions, kind, keys = as_outputs(outputs)
    all_updates = as_updates(updates)
    replacements = {}
    for key, value in pairs(givens, "givens"):
        if not isinstance(key, Tensor):
            raise TypeError(f"function: givens replace variables, not {key!r}")
        replacements[key] = fitted(key, value, f"givens: replacement of {key.name or key!r}")
    targets = [key for key, _ in all_updates]
    everything = [*expressions, *[value for _, value in all_updates]]
    if replacements:
        everything = replace(everything, replacements)
    if no_default_updates is not True:
        kept = () if no_default_updates is False else no_default_updates
        defaults = _default_updates(everything, targets, kept)
        targets += [key for key, _ in defaults]
        everything += [value for _, value in defaults]
    reached = ancestors(everything)
    check_complete([n for n in reached if not n.inputs], given_inputs)
    check_used(given_inputs, set(reached), on_unused_input or config.on_unused_input)
    chosen = mode or config.mode
    count = len(expressions)
    made = _class()(
        name or "function",
        given_inputs,
        everything[:count],
        list(zip(targets, everything[count:], strict=True)),
        kind,
        keys,
        chosen,
    )
    return made


def _class() -> type[Function]:
    return bind_call(Function)


def _default_updates(
    outputs: Sequence[Tensor], targets: Sequence[SharedVariable], without: Sequence[SharedVariable]
) -> list[tuple[SharedVariable, Tensor]]:
    """Default updates of the shared variables used, and of those that these updates use in turn."""
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
            found[variable] = fitted(variable, variable.default_update, f"default update of {variable.name}")
            pending.append(found[variable])
    return list(found.items())


