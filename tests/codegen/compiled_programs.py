"""Small host programs for tests: made, called natively, and run by the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor_codegen import scalar
from symtensor_codegen.finish import finish
from symtensor_codegen.llvm.backend import compile_program
from symtensor_codegen.llvm.calling import IN_PLACE, RETURN, SWAP, CallSpec, Cell, InputSpec, OutputSpec, make_callable
from symtensor_codegen.loops import Statement
from symtensor_codegen.program import Launch, Output, Program, Step
from symtensor_codegen.reference.programs import ProgramFailure, run_program
from symtensor_codegen.scalar import Buffer, Dim, Scalar

Array = np.ndarray[Any, Any]


def launch(
    name: str, *body: Statement, failures: tuple[object, ...] = (), cost: Dim = 1
) -> Launch:
    """A launch of a kernel with this body, on the buffers that the body names."""
    done = finish(name, body, failures, "", {})
    return Launch(done.kernel, done.buffers, done.parameters, done.extent, 1 << 20, failures, cost)


def program(
    inputs: Sequence[Buffer],
    steps: Sequence[Step],
    outputs: Sequence[Output],
    cells: Sequence[Buffer] = (),
    messages: tuple[object, ...] = (),
) -> Program:
    """A program with the messages that it can fail with."""
    return Program("test", tuple(inputs), tuple(cells), tuple(outputs), tuple(steps), messages)


def native(made: Program, cells: Sequence[Cell] = (), **options: Any) -> Any:
    """The program as a callable; it returns the list of its results."""
    compiled = compile_program(made)

    def fail(status: int, details: tuple[int, int, int, int]) -> Exception:
        return ProgramFailure(made.messages[status - 1], details)

    def slow(*args: Any) -> tuple[Array, ...]:
        return tuple(np.ascontiguousarray(a, b.dtype.numpy) for a, b in zip(args, made.inputs, strict=True))

    outputs, returned = [], 0
    for output in made.outputs:
        update = IN_PLACE if output.in_place else SWAP
        kind, place = (RETURN, returned) if output.cell is None else (update, output.cell)
        returned += output.cell is None
        outputs.append(OutputSpec(output.buffer.dtype.numpy, len(output.buffer.dims), kind, place))  # type: ignore[arg-type]
    sizes = [tuple(None if isinstance(d, Scalar) else d for d in b.dims) for b in made.inputs]
    return make_callable(
        CallSpec(
            name="test",
            inputs=tuple(InputSpec(b.dtype.numpy, dims) for b, dims in zip(made.inputs, sizes, strict=True)),
            cells=tuple(cells),
            outputs=tuple(outputs),
            program=compiled.address,
            slow_path=slow,
            fail=fail,
            result="list",
            keep=(compiled,),
            **options,
        )
    )


def both(made: Program, *inputs: Array) -> list[Array]:
    """The results of a call, checked to be the same natively and from the interpreter."""
    expected = run_program(made, [a.copy() for a in inputs], [])
    found = native(made)(*inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    return expected


def vector(name: str, dtype: Any) -> Buffer:
    """A buffer with one axis of its own size."""
    return Buffer(name, dtype, (scalar.symbol((name, 0)),))
