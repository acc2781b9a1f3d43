"""Compiled functions: what calling ``function`` makes, and everything that can be asked of it."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import numpy.typing as npt

from symtensor_codegen.errors import MixedDevicesError, UserError
from symtensor_codegen.llvm.calling import (
    IN_PLACE,
    RETURN,
    SWAP,
    CallSpec,
    Cell,
    InputSpec,
    OutputSpec,
    arrays_of,
    attach,
    bind_call,
    make_callable,
)
from symtensor_codegen.scalar import Scalar

from . import graph
from .arguments import In
from .devices import CPU, check_places, is_device_array, place_name, settle
from .failures import failure
from .first_call import FIRST_CALL, NOTHING, FirstCall, may_specialise, size_hints
from .function_graph import Maker
from .graph import Tensor, ancestors
from .lower.plan import Result
from .modes import ModeRecord
from .opdef import SHARED, describe, where
from .ops.printed import PRINT
from .pipeline import FAST_MATH, GRAPH_PASSES, QUICK_PASSES, Compilation, Pass, compile_graph
from .printing import show
from .settings import config
from .shared_variables import SharedVariable, check_sizes, converted

if TYPE_CHECKING:
    from .profiling import Profile

Array = npt.NDArray[Any]
_ADVICE = "convert it, or pass allow_input_downcast=True to function()"


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """What a function computes and how: everything that is needed to compile it again.

    ``kind`` is the form of the result: ``"single"``, ``"list"``, ``"dict"`` (with ``keys``) or ``"none"``.
    ``prints`` are the Print operations among what is computed. ``stays`` says of each output whether it stays on the
    ``device``; of none where it is empty.
    """

    name: str
    inputs: tuple[In, ...]
    outputs: tuple[Tensor, ...]
    updates: tuple[tuple[SharedVariable, Tensor], ...]
    kind: str
    keys: tuple[str, ...]
    mode: ModeRecord
    profile: bool = False
    prints: tuple[Tensor, ...] = ()
    device: str = CPU
    stays: tuple[bool, ...] = ()

    @property
    def expressions(self) -> list[Tensor]:
        """Outputs, then the new values of the updates."""
        return [*self.outputs, *[value for _, value in self.updates]]

    @property
    def computed(self) -> list[Tensor]:
        """Outputs, what is printed, and the new values of the updates."""
        printed = [shown.inputs[0] for shown in self.prints]
        return [*self.outputs, *printed, *[value for _, value in self.updates]]

    @property
    def cells(self) -> list[SharedVariable]:
        """The shared variables that are read or updated."""
        return shared_of([*self.expressions, *[key for key, _ in self.updates]])

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What rewrites the graph."""
        passes = QUICK_PASSES if self.mode.quick else GRAPH_PASSES
        return (*passes, FAST_MATH) if config.fast_math else passes


class Function:
    """A compiled function: call it with arrays for its inputs, by position or name.

    ``inputs`` are its In records, ``outputs`` the expressions it returns, ``updates`` the pairs of a shared
    variable and its next value; ``name`` stands in messages. ``compilation`` holds what each stage of the
    compiler made, ``profile`` the times of every kernel if the function was built with ``profile=True`` (else
    None). ``trust_input`` is accepted for Theano's sake: checking arguments costs nothing here.
    """

    profile: "Profile | None" = None
    trust_input = False

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name = definition.name
        self.inputs, self.outputs, self.updates = definition.inputs, definition.outputs, definition.updates
        self._cells = tuple(definition.cells)
        self._compilation: Compilation | None = None
        compiles = definition.mode.runs != "reference"
        if compiles:
            check_places(self, self._cells)
        self._prepare()
        if compiles:
            settle(self, self._cells)

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **named: Any) -> Any:
            """Native code does this, or the subclass."""

    def _prepare(self) -> None:
        """Compile, and make calls run the native program."""
        made = self.definition
        results = [Result(o) for o in made.computed[: len(made.outputs) + len(made.prints)]]
        results += [Result(value, self._cells.index(key)) for key, value in made.updates]
        waits = may_specialise(made)
        done = self._compilation = self._compiled_to(results, made.passes, made.profile, self._hints(), waits)
        if waits and done.plan.special:
            first = FirstCall(self, results)
            attach(self, self._specification(done, finish=self._finish, first=first))
            return
        self._attach(done, waits)

    def _attach(self, done: Compilation, waits: bool = False) -> None:
        """Make calls run a native program; ``waits``: it was compiled with an input for the first call."""
        made = self.definition
        extra: tuple[Cell, ...] = ()
        if made.profile:
            from .profiling import Profile

            self.profile = Profile(self.name, done)
            extra = (Cell(self.profile.counters),)
        attach(self, self._specification(done, self._finish, extra, waits))

    @property
    def _finish(self) -> Callable[[list[Any]], Any] | None:
        """What makes a call's result of the values that native code returns; None where they are the result."""
        return self._finished if self.definition.kind == "dict" or self.definition.prints else None

    def _compiled_to(
        self,
        results: Sequence[Result],
        passes: Sequence[Pass],
        profile: bool = False,
        hints: Mapping[Scalar, int] | None = None,
        waits: bool = False,
    ) -> Compilation:
        inputs = [i.variable for i in self.inputs]
        if waits:
            inputs.append(FIRST_CALL)
        return compile_graph(self.name, inputs, self._cells, results, passes, profile, hints, self.device)

    def _specification(
        self,
        done: Compilation,
        finish: Callable[[list[Any]], Any] | None = None,
        extra: tuple[Cell, ...] = (),
        waits: bool = False,
        first: FirstCall | None = None,
        listed: bool = False,
    ) -> CallSpec:
        """What native calls of a program over the inputs and shared variables of this function need.

        A program that ``waits`` for its first call has one more input; afterwards (``first`` is None) a cell, which
        has the same place in the frame, holds its value. ``listed``: native code returns a list in any case.
        """
        single = self.definition.kind == "single" and finish is None and not listed
        held = (Cell(NOTHING),) if waits else ()
        program = done.plan.program
        outputs = []
        for position, output in enumerate(program.outputs):
            dtype, rank = output.buffer.dtype.numpy, len(output.buffer.dims)
            if output.cell is None:
                outputs.append(OutputSpec(dtype, rank, RETURN, position))
            else:
                place = output.cell + len(held)
                outputs.append(OutputSpec(dtype, rank, IN_PLACE if output.in_place else SWAP, place))

        def fail(status: int, details: tuple[int, int, int, int]) -> BaseException:
            return failure(self, program.messages[status - 1], details, lambda: self._met(spec, details[0]))

        spec = CallSpec(
            name=self.name,
            inputs=(
                *[InputSpec(i.variable.element.numpy, i.variable.type.shape) for i in self.inputs],
                *([InputSpec(NOTHING.dtype, ())] if first is not None else []),
            ),
            cells=(*held, *[c.cell for c in self._cells], *[Cell(c.data) for c in done.plan.constants], *extra),
            outputs=tuple(outputs),
            program=done.native.address,
            slow_path=self._arguments if first is None else first,
            fail=fail,
            result="single" if single else "list",
            finish=finish,
            keep=(done.native,),
        )
        return spec

    def _callable(self, done: Compilation) -> Callable[..., list[Array]]:
        """A program as a function of arrays that fit, which gives all its results."""
        if self.device != CPU:
            from .device_function import DeviceProgram

            return DeviceProgram(self, done).values
        made: Callable[..., list[Array]] = make_callable(self._specification(done, listed=True))
        return made

    def _hints(self, arrays: Sequence[Any] | None = None) -> dict[Scalar, int]:
        """The sizes of shared variables, and of the arguments of a call."""
        hints = size_hints(self._cells, [c.cell.shape for c in self._cells])
        if arrays is not None:
            hints |= size_hints([i.variable for i in self.inputs], [array.shape for array in arrays])
        return hints

    def _met(self, spec: CallSpec, frame: int) -> tuple[Sequence[Array], Sequence[Array]]:
        """The arguments of a failing call, and the values of the shared variables in it.

        A program that waits for its first call, or did, has one more array between them.
        """
        inputs, cells = arrays_of(spec, frame)
        given, count = [*inputs, *cells], len(self.inputs)
        waited = len(inputs) > count or any(cell.get() is NOTHING for cell in spec.cells[:1])
        return given[:count], given[count + waited :][: len(self._cells)]

    def _finished(self, values: list[Any]) -> Any:
        """The result of a call, of the outputs and what is to be printed."""
        made, count = self.definition, len(self.outputs)
        for shown, value in zip(made.prints, values[count:], strict=True):
            show(shown, value)
        if made.kind == "dict":
            return dict(zip(made.keys, values, strict=False))
        return values[0] if made.kind == "single" else values[:count]

    def _arguments(self, *args: Any, **named: Any) -> tuple[Array, ...]:
        """Arguments converted to arrays that fit the inputs exactly."""
        name, inputs = self.name, self.inputs
        if len(args) > len(inputs):
            count = "1 argument" if len(inputs) == 1 else f"{len(inputs)} arguments"
            raise TypeError(f"{name} takes {count} ({self._input_names()}), got {len(args)}")
        values: dict[int, Any] = dict(enumerate(args))
        for key, value in named.items():
            found = [k for k, i in enumerate(inputs) if i.name == key]
            if not found:
                raise TypeError(f"{name} has no input called {key!r}; its inputs are: {self._input_names()}")
            if found[0] in values:
                raise TypeError(f"{name} got two values for the input {key!r}")
            values[found[0]] = value
        result = []
        for position, given in enumerate(inputs):
            what = f"{name}: {self._labels[position]}"
            value = values.get(position, given.value)
            if value is None:
                fault = "got None" if position in values else "is missing"
                raise TypeError(f"{what} {fault}: pass a value of type {given.variable.type}")
            if isinstance(value, SharedVariable):
                raise TypeError(f"{what} got a shared variable; pass its get_value()")
            if is_device_array(value):
                result.append(self._received(value, given, what))
                continue
            array = converted(value, given.variable.type, what, given.allow_downcast, _ADVICE, given.strict)
            check_sizes(array.shape, given.variable.type, what)
            result.append(array)
        return tuple(result)

    @cached_property
    def _labels(self) -> list[str]:
        """What messages call the inputs."""
        return [f"input {i.name or f'number {k}'}{where(i.variable)}" for k, i in enumerate(self.inputs)]

    def _received(self, value: Any, given: In, what: str) -> Any:
        """An argument that is on a device."""
        raise MixedDevicesError(
            f"{what} got an array on {place_name(value) or 'a device'}, and {self.name} runs on {self.device}: copy it "
            f"to this machine first, or build the function with device={place_name(value) or 'cuda'!r}"
        )

    def _input_names(self) -> str:
        return ", ".join(i.name or f"number {k}" for k, i in enumerate(self.inputs)) or "none"

    # Theano's methods ----------------------------------------------------------------------------------

    def get_shared(self) -> list[SharedVariable]:
        """The shared variables that the function reads or updates."""
        return list(self._cells)

    @property
    def maker(self) -> Maker:
        """Theano's view of what was compiled: ``f.maker.fgraph.toposort()``, ``.inputs``, ``.outputs``."""
        done = self._compilation
        outputs = self.definition.expressions if done is None else done.stages[-1].outputs
        return Maker(self.inputs, self._cells, outputs, self.definition.mode)

    def free(self) -> None:
        """Give memory that is kept for the next call back to the system, that of all functions."""
        from symtensor_codegen.llvm.memory import release

        release()

    def copy(
        self,
        share_memory: bool = False,
        swap: Mapping[Any, Any] | None = None,
        delete_updates: bool = False,
        name: str | None = None,
        profile: bool | None = None,
    ) -> Any:
        """Another function that computes the same, on the same shared variables except those of ``swap``.

        ``swap`` maps shared variables of this function to others of the same type. ``delete_updates`` leaves
        shared variables as they are. ``share_memory`` is accepted: memory of a call is never held between
        calls.

        Raises:
            ValueError: the function does not use a variable of ``swap``.
            TypeError: a replacement is no shared variable, or has another type.
        """
        old = self.definition
        swapped: dict[Tensor, Tensor] = {}
        for before, after in (swap or {}).items():
            if not isinstance(before, SharedVariable) or before not in self._cells:
                used = ", ".join(describe(c) for c in self._cells) or "none"
                raise ValueError(
                    f"{self.name}.copy: swap: {before!r} is not used by the function; it uses: {used}"
                )
            if not isinstance(after, SharedVariable):
                raise TypeError(
                    f"{self.name}.copy: swap: {describe(before)} must be replaced by a shared variable, "
                    f"not {after!r}"
                )
            if after.type != before.type:
                raise TypeError(
                    f"{self.name}.copy: swap: the types differ: {describe(before)}; {describe(after)}"
                )
            swapped[before] = after
        kept = () if delete_updates else old.updates
        expressions = graph.replace([*old.outputs, *[value for _, value in kept]], swapped)
        values = expressions[len(old.outputs) :]
        prints = tuple(node for node in ancestors(expressions) if node.op is PRINT)
        keys: list[Any] = [swapped.get(key, key) for key, _ in kept]
        return function_of(
            replace(
                old,
                name=name or self.name,
                outputs=tuple(expressions[: len(old.outputs)]),
                updates=tuple(zip(keys, values, strict=True)),
                profile=old.profile if profile is None else profile,
                prints=prints,
            )
        )

    def __reduce__(self) -> Any:
        from .pickling import reduce_function

        return reduce_function(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        load, parts = self.__reduce__()
        return load(*deepcopy(parts, memo), device=self.device)

    # Looking inside ------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """The name of the mode it was compiled in."""
        return self.definition.mode.name

    @property
    def device(self) -> str:
        """The device that it runs on."""
        return self.definition.device

    @property
    def compilation(self) -> Compilation:
        """What each stage of the compiler made.

        Raises:
            UserError: the mode compiles nothing.
        """
        if self._compilation is None:
            raise UserError(
                f"{self.name}: the mode {self.mode!r} compiles nothing; build the function in another mode"
            )
        return self._compilation

    @property
    def stages(self) -> Mapping[str, str]:
        """The graph after each pass, as text: ``print(f.stages["stability"])``."""
        from .report import Stages

        return Stages(self.compilation)

    def source(self, language: str = "loops") -> str:
        """The generated code: ``"loops"``, ``"program"`` (the steps of a call), ``"llvm"`` or ``"asm"``.

        Of a function for a device ``"cuda"``, ``"ptx"`` or ``"sass"`` instead of the last two.
        """
        native = self.compilation.native
        if not hasattr(native, "architecture"):
            return str(native.source(language))
        from .report import computed

        return str(native.source(language, computed(self.compilation)))

    def explain(self) -> str:
        """What the compiler did: a row per pass with nodes, time and rules fired; then the kernels."""
        from .report import explanation

        return explanation(self.compilation)

    @property
    def memory(self) -> str:
        """The memory of a call: each buffer with its size and place."""
        from .report import memory

        return memory(self.compilation)

    def dprint(self, file: TextIO | str | None = None) -> Any:
        """``debugprint`` of the graph as it was compiled."""
        from .printing import debugprint

        return debugprint(list(self.maker.fgraph.outputs), file=file)

    def __repr__(self) -> str:
        names = ", ".join(i.name or "_" for i in self.inputs)
        updates = f", updates {', '.join(key.name or '_' for key, _ in self.updates)}" if self.updates else ""
        count = "1 output" if len(self.outputs) == 1 else f"{len(self.outputs)} outputs"
        mode = "" if self.mode == "fast_run" else f", mode {self.mode}"
        device = "" if self.device == CPU else f", on {self.device}"
        return f"<function {self.name}({names}): {count}{updates}{mode}{device}>"


def function_of(definition: Definition) -> Function:
    """The function of a definition, in its mode."""
    if definition.mode.runs == "native":
        if definition.device != CPU:
            from .device_function import DeviceFunction

            return DeviceFunction(definition)
        return bind_call(Function)(definition)
    from .checked_function import CLASSES

    return CLASSES[definition.mode.runs](definition)


def shared_of(outputs: Sequence[Tensor]) -> list[SharedVariable]:
    """The shared variables that expressions depend on, in order of first use."""
    return [n for n in ancestors(outputs) if n.op is SHARED and isinstance(n, SharedVariable)]


def arrays_copied(values: Sequence[Any]) -> list[Array]:
    """Arrays of their own memory, in C order, with these values."""
    return [np.array(value, order="C") for value in values]
