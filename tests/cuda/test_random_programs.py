"""Random programs as CUDA text, with races and bounds watched, against the reference evaluator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import symtensor
from symtensor_codegen.cuda import device as devices
from tests.cuda.host import host_device
from tests.fuzz.differential import check_function, task
from tests.fuzz.graphs import build
from tests.fuzz.test_random_programs import INSTRUCTIONS, PICKS, ROW

pytestmark = pytest.mark.cuda_host
FEW = settings(max_examples=25, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=200, suppress_health_check=list(HealthCheck))


def on_host(instructions: Any, picks: Any, row: int, checked: bool) -> None:
    program = build(instructions, False, row)
    device = host_device(checked=checked)
    devices.use(device)
    try:
        with symtensor.config.change(device="cuda"):
            check_function(task(program, picks), program, "fast_run")
    finally:
        devices.forget(device.name)


@FEW
@given(INSTRUCTIONS, PICKS, ROW)
def test_with_races_watched(instructions: Any, picks: Any, row: int) -> None:
    on_host(instructions, picks, row, True)


@pytest.mark.slow
@MANY
@given(INSTRUCTIONS, PICKS, ROW)
def test_many(instructions: Any, picks: Any, row: int) -> None:
    on_host(instructions, picks, row, False)
