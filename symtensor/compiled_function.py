"""Compiled functions: what calling ``function`` makes, and everything that can be asked of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import numpy.typing as npt

from symtensor_codegen.errors import UserError
from symtensor_codegen.llvm.calling import (
    IN_PLACE,
    RETURN,
    SWAP,
    CallSpec,
    Cell,
    InputSpec,
    OutputSpec,
    attach,
    bind_call,
)
from symtensor_codegen.scalar import Scalar

from . import graph
from .arguments import In
from .failures import failure
from .function_graph import Maker
from .graph import Tensor, ancestors, variable
from .loops.passes import has_loops
from .lower.plan import Result
from .modes import ModeRecord
from .opdef import SHARED, describe, where
from .ops.printed import PRINT
from .pipeline import FAST_MATH, GRAPH_PASSES, QUICK_PASSES, Compilation, Pass, compile_graph, specialised
from .printing import show
from .settings import config
from .shared_variables import ArgumentShapeError, SharedVariable, converted
from .types import TensorType

if TYPE_CHECKING:
    from .profiling import Profile

Array = npt.NDArray[Any]
_ADVICE = "convert it, or pass allow_input_downcast=True to function()"


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """What a function computes and how: everything that is needed to compile it again.

    ``kind`` is the form of the result: ``"single"``, ``"list"``, ``"dict"`` (with ``keys``) or ``"none"``.
    ``prints`` are the Print operations among what is computed.
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
        self._prepare()

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **named: Any) -> Any:
            """Native code does this, or the subclass."""

    def _prepare(self) -> None:
        """Compile, and make calls run the native program."""
        made = self.definition
        results = [Result(o) for o in made.computed[: len(made.outputs) + len(made.prints)]]
        results += [Result(value, self._cells.index(key)) for key, value in made.updates]
        waits = may_specialise(made)
        hints = size_hints(self._cells, [c.get_value(borrow=True) for c in self._cells])
        done = self._compilation = self._compiled_to(results, made.passes, made.profile, hints, waits)
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
        return compile_graph(self.name, inputs, self._cells, results, passes, profile, hints)

    def _specification(
        self,
        done: Compilation,
        finish: Callable[[list[Any]], Any] | None = None,
        extra: tuple[Cell, ...] = (),
        waits: bool = False,
        first: "FirstCall | None" = None,
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
            return failure(self, spec, program.messages[status - 1], details)

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

    def waited(self, spec: CallSpec) -> bool:
        """Whether a program has, or had, one more input for its first call."""
        return len(spec.inputs) > len(self.inputs) or any(cell.get() is NOTHING for cell in spec.cells[:1])

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
            label = given.name or f"number {position}"
            what = f"{name}: input {label}{where(given.variable)}"
            value = values.get(position, given.value)
            if value is None:
                raise TypeError(f"{what} is missing: pass a value of type {given.variable.type}")
            if isinstance(value, SharedVariable):
                raise TypeError(f"{what} got a shared variable; pass its get_value()")
            array = converted(value, given.variable.type, what, given.allow_downcast, _ADVICE)
            for axis, size in enumerate(given.variable.type.shape):
                if size is not None and array.shape[axis] != size:
                    raise ArgumentShapeError(f"{what}: axis {axis} must have size {size}, got shape {array.shape}")
            result.append(array)
        return tuple(result)

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

    # Looking inside ------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """The name of the mode it was compiled in."""
        return self.definition.mode.name

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
        """The generated code: ``"loops"``, ``"program"`` (the steps of a call), ``"llvm"`` or ``"asm"``."""
        return str(self.compilation.native.source(language))

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
        return f"<function {self.name}({names}): {count}{updates}{mode}>"


NOTHING = np.zeros((), np.int8)
FIRST_CALL = variable(TensorType("int8"), "first_call")


def may_specialise(made: Definition) -> bool:
    """Whether the sizes of a first call's arguments may make loops of a function faster."""
    return bool(made.inputs) and not made.mode.quick and not made.profile and has_loops(made.computed)


def size_hints(variables: Sequence[Tensor], arrays: Sequence[Array]) -> dict[Scalar, int]:
    """The sizes of arrays, by the symbols that stand for them."""
    return {
        symbol: size
        for node, array in zip(variables, arrays, strict=True)
        for symbol, size in zip(node.dims, array.shape, strict=True)
        if isinstance(symbol, Scalar)
    }


class FirstCall:
    """What a function does with the arguments of its first call, beside converting them.

    Loops over a few numbers are kept in registers, for which sizes must be known. Where they are not, the program is
    compiled again when a call has shown likely sizes: with both ways, of which each call takes the one that fits.
    """

    def __init__(self, function: Function, results: Sequence[Result]) -> None:
        self.function, self.results = function, results
        self.lock = Lock()
        self.done = False

    def __call__(self, *args: Any, **named: Any) -> tuple[Array, ...]:
        """The arguments as native code wants them, the one that asks for this call last."""
        function = self.function
        arrays = function._arguments(*args, **named)
        with self.lock:
            if not self.done:
                self.done = True
                self._specialise(arrays)
        return (*arrays, NOTHING)

    def _specialise(self, arrays: tuple[Array, ...]) -> None:
        function = self.function
        function._earlier = function._native_keep  # type: ignore[attr-defined]  # the call in progress runs it
        inputs = [i.variable for i in function.inputs]
        hints = size_hints(inputs, arrays) | size_hints(
            function._cells, [c.get_value(borrow=True) for c in function._cells]
        )
        better = specialised(function.compilation, function.name, inputs, function._cells, self.results, hints)
        if better is not None:
            function._compilation = better
            function._attach(better)
        else:
            function._attach(function.compilation, waits=True)


def function_of(definition: Definition) -> Function:
    """The function of a definition, in its mode."""
    if definition.mode.runs == "native":
        return bind_call(Function)(definition)
    from .checked_function import CLASSES

    return CLASSES[definition.mode.runs](definition)


def shared_of(outputs: Sequence[Tensor]) -> list[SharedVariable]:
    """The shared variables that expressions depend on, in order of first use."""
    return [n for n in ancestors(outputs) if n.op is SHARED and isinstance(n, SharedVariable)]


def arrays_copied(values: Sequence[Any]) -> list[Array]:
    """Arrays of their own memory, in C order, with these values."""
    return [np.array(value, order="C") for value in values]
