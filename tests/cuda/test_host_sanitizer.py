"""The host device under the address sanitizer, whose library a process must have loaded before all else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.host import BUILD_VARIABLE, compiler, require_compiler

TESTS = Path(__file__).parents[1]
SHIM = "tests/cuda/test_host_shim.py"
OPERATIONS = ("add", "advanced_subtensor", "argmax", "cumsum", "exp", "inc_at", "join", "logsumexp", "softmax", "sum")


def under_sanitizer(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a process of its own."""
    require_compiler()
    library = compiler.sanitizer_library()
    if library is None:
        pytest.skip("g++ has no libasan: install it (Debian, Ubuntu: apt-get install g++)")
    settings = {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        BUILD_VARIABLE: "address",
        "SYMTENSOR_TEST_DEVICES": "host",
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=TESTS.parent,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_right_kernels() -> None:
    done = under_sanitizer(SHIM, "-k", "right_kernels or lanes or axes or halves or do_not_meet")
    assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_kernels() -> None:
    done = under_sanitizer("--capture=no", SHIM, "-k", "stores_beyond_a_block")
    assert "ERROR: AddressSanitizer: use-after-poison" in done.stderr, done.stdout + done.stderr
    assert "k_0" in done.stderr


def test_emitted_kernels() -> None:
    tests = [f"tests/ops/test_op_suite.py::test_compiled_result[host-{name}]" for name in OPERATIONS]
    done = under_sanitizer(*tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(tests)} passed" in done.stdout
