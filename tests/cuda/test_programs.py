"""How programs are carried out on a device: the same as in the reference interpreter, whatever is recorded or replayed.

The device is one of NumPy arrays whose kernels are run by the interpreter, so that only the execution is under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor_codegen.cuda.backend import compile_program
from symtensor_codegen.cuda.compiling.kernels import variants
from symtensor_codegen.cuda.errors import DeviceFault
from symtensor_codegen.errors import InternalError, UserError
from symtensor_codegen.program import AllocateOutput, Loop, Reserve
from symtensor_codegen.reference.programs import run_program
from tests.codegen import compiled_programs
from tests.codegen import test_program_loops as loops
from tests.cuda.numpy_device import NumpyDevice
from tests.cuda.program_cases import (
    CASES,
    Case,
    OnDevice,
    both,
    exchange,
    network,
    normal,
    on_device,
    recurrent,
    steps_of_an_input,
)

# The programs of the suite for host programs --------------------------------------------------------------------------

SUITE: list[Callable[[], None]] = [
    *[lambda n=n: loops.test_two_places_of_a_state(n) for n in (-3, 0, 1, 2, 5)],  # type: ignore[misc]
    *[lambda n=n: loops.test_three_places(n) for n in range(5)],  # type: ignore[misc]
    lambda: loops.test_rows(False),
    lambda: loops.test_rows(True),
    *[lambda a=a: loops.test_until(*a) for a in ((0.5, 1), (10.0, 4), (1e9, 7))],  # type: ignore[misc]
    loops.test_the_step_number_is_known_in_kernels_and_guards,
    loops.test_nested_loops_exchange_memory_of_the_loop_around,
    loops.test_matrix_powers,
    lambda: loops.test_memory_of_steps_is_given_back(10),
    loops.test_sizes_read_in_a_step,
    loops.test_a_kernel_fails_in_a_step,
    loops.test_branches,
    loops.test_a_branch_that_is_not_taken_does_nothing,
    loops.test_a_branch_inside_a_loop_inside_a_branch,
]


@pytest.mark.parametrize("test", SUITE)
def test_suite_of_host_programs(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "both", both)
    monkeypatch.setattr(loops, "native", OnDevice)
    test()


# Programs of graphs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_graphs(case: Callable[[], Case]) -> None:
    case().check()


# What is recorded and replayed ----------------------------------------------------------------------------------------


def test_a_call_is_launched_then_captured_then_replayed() -> None:
    case = network()
    run = on_device(case)
    launched = []
    for _ in range(4):
        before = run.device.launches
        run(*case.inputs)
        launched.append(run.device.launches - before)
    assert run.device.captures == 1
    assert launched[0] > 0
    assert launched[1] == launched[0]
    assert launched[2:] == [0, 0]


def test_memory_that_variables_exchange_comes_round() -> None:
    """Two variables get new memory in each call: two sets of addresses, and a graph for each."""
    case = exchange()
    run = on_device(case)
    for _ in range(8):
        run()
    captures = run.device.captures
    for _ in range(8):
        run()
    assert run.device.captures == captures == 2


def test_results_that_are_kept_have_memory_of_their_own() -> None:
    x = T.dvector("x")
    case = Case([x], [x * 2], [np.ones(3)])
    run = on_device(case)
    kept = [run.compiled.call([np.full(3, float(k))], run.cells)[0] for k in range(6)]
    for k, array in enumerate(kept):
        np.testing.assert_array_equal(array.numpy(), np.full(3, 2.0 * k))
    assert len({array.address for array in kept}) == 6


def test_recordings_are_for_shapes_and_for_values_that_decide() -> None:
    case = steps_of_an_input()
    run = on_device(case)
    recordings = run.compiled.runner.recordings
    x = normal(3)
    for count in (5, 2, 5, 3):
        wanted = run_program(case.program, [np.array(count), x], case.cells)
        np.testing.assert_allclose(run(count, x)[0], wanted[0])
    assert len(recordings) == 3
    run(5, x + 1)
    assert len(recordings) == 3
    run(5, normal(4))
    assert len(recordings) == 4
    for count in range(1, 30):
        run(count, x)
    assert len(recordings) == 16
    assert run.device.downloads > 0  # of results
    before = run.device.downloads
    run.compiled.call([np.array(5), x], run.cells)
    assert run.device.downloads == before, "nothing is waited for"
    run.compiled.call(run.uploaded(5, x), run.cells)
    assert run.device.downloads == before + 1, "the number of steps is read from the device"


def test_small_inputs_are_one_transfer() -> None:
    a, b, c, unused = T.dvector("a"), T.fscalar("b"), T.bmatrix("c"), T.lscalar("unused")
    large = T.dvector("large")
    case = Case([a, b, c, large, unused], [a * b + c.sum(), large + 1],
                [normal(3), 2.0, np.ones((2, 3)), normal(20_000), 7])  # fmt: skip
    run = on_device(case)
    for _ in range(3):
        before = run.device.uploads
        np.testing.assert_allclose(run(*case.inputs)[0], case.expected(case.cells)[0][0])
        assert run.device.uploads == before + 2


def test_long_calls_are_graphs_in_pieces_or_run_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symtensor_codegen.cuda.calls.recording.PIECE", 7)
    recurrent().check(calls=3)
    monkeypatch.setattr("symtensor_codegen.cuda.calls.recording.MOST_ACTIONS", 10)
    run = recurrent().check(calls=3)
    assert list(run.compiled.runner.recordings.values()) == [None]


def test_no_synchronisation_where_nothing_can_fail() -> None:
    case = exchange()
    run = on_device(case)
    for _ in range(4):
        run.compiled.call([], run.cells)
    assert run.device.downloads == 0


# Code -----------------------------------------------------------------------------------------------------------------


def test_equal_kernels_are_compiled_once() -> None:
    device = NumpyDevice()
    first = compile_program(loops.doubling()[0], device, emitter=device.emitter(), products=device.products)
    again = compile_program(loops.doubling()[0], device, emitter=device.emitter(), products=device.products)
    assert (first.hits, first.compiled) == (0, 1)
    assert (again.hits, again.compiled) == (1, 0)
    assert first.kernels[0] is again.kernels[0]
    assert device.compiled == 1


def test_a_kernel_that_gets_a_variable_twice_is_another_one() -> None:
    case = network()
    aliased = [variant for variant in variants(case.program) if variant.aliased]
    assert len(aliased) == 3
    assert aliased[0].key("sm_90") != aliased[0]._replace(aliased=False).key("sm_90")


def test_sources() -> None:
    program = loops.branching()
    run = OnDevice(program)
    assert "kernel more" in run.compiled.source("loops")
    assert run.compiled.source("program").startswith("program test:")
    text = run.compiled.source("cuda", dict.fromkeys(program.kernels(), "what it does"))
    assert [line for line in text.splitlines() if line and not line.startswith("//")] == ["more", "times"]
    assert "// more: what it does\n" in text
    with pytest.raises(UserError, match="'ptx' or 'sass', not 'llvm'"):
        run.compiled.source("llvm")


def test_kernels_are_called_by_their_names_in_errors() -> None:
    case = exchange()
    run = on_device(case)

    def broken(*arguments: Any) -> None:
        raise DeviceFault(f"cuda:7 failed in kernel {run.compiled.kernels[0].code.symbol}_0")

    run.device.launch = broken  # type: ignore[method-assign]
    with pytest.raises(DeviceFault, match="cuda:7 failed in kernel k0_"):
        run()


def test_only_the_whole_call_may_reserve_memory() -> None:
    for step in (Reserve(64), AllocateOutput(loops.temporary("b"), 0)):
        made = compiled_programs.program((loops.HOW_OFTEN,), [Loop(loops.T, 2, (), (step,))], ())
        with pytest.raises(InternalError, match="in a loop or branch"):
            OnDevice(made)
