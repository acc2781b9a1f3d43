"""Random programs: compiled results against the reference evaluator, node by node in NumPy."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .differential import check_function, check_program, largest, task
from .graphs import VERBS, WEIGHTS, build

ROUNDS = settings(max_examples=60, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=1500, suppress_health_check=list(HealthCheck))

NUMBER = st.integers(0, 2000)
SMALL = st.integers(0, 12)
VERB = st.sampled_from([verb for verb in VERBS for _ in range(WEIGHTS.get(verb, 1))])
INSTRUCTION = st.tuples(VERB, st.tuples(SMALL, NUMBER, NUMBER))
INSTRUCTIONS = st.lists(INSTRUCTION, min_size=2, max_size=24)
PICKS = st.tuples(SMALL, SMALL, SMALL, SMALL, SMALL)
ROW = st.integers(0, 3)


def compiled(instructions, picks, row, special, mode) -> None:
    program = build(instructions, special, row)
    check_function(task(program, picks), program, mode)


def interpreted(instructions, picks, row, special) -> None:
    program = build(instructions, special, row)
    made = task(program, picks)
    if largest(made, program) <= 150:
        check_program(made, program)


@ROUNDS
@given(INSTRUCTIONS, PICKS, ROW, st.sampled_from(["fast_run", "fast_compile"]))
def test_compiled(instructions, picks, row, mode) -> None:
    compiled(instructions, picks, row, False, mode)


@ROUNDS
@given(INSTRUCTIONS, PICKS, ROW)
def test_lowered_and_interpreted(instructions, picks, row) -> None:
    interpreted(instructions, picks, row, False)


@pytest.mark.slow
@MANY
@given(INSTRUCTIONS, PICKS, ROW, st.sampled_from(["fast_run", "fast_compile"]), st.booleans())
def test_compiled_many(instructions, picks, row, mode, special) -> None:
    compiled(instructions, picks, row, special, mode)


@pytest.mark.slow
@MANY
@given(INSTRUCTIONS, PICKS, ROW, st.booleans())
def test_lowered_and_interpreted_many(instructions, picks, row, special) -> None:
    interpreted(instructions, picks, row, special)
