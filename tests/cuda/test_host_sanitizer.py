"""The host device under the address sanitizer, whose library a process must have loaded before all else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.host import BUILD_VARIABLE, compiler, require_compiler

SUITE = Path(__file__).with_name("test_host_shim.py")


def under_sanitizer(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a part of the suite in a process of its own."""
    require_compiler()
    library = compiler.sanitizer_library()
    if library is None:
        pytest.skip("g++ has no libasan: install it (Debian, Ubuntu: apt-get install g++)")
    settings = {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", BUILD_VARIABLE: "address"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE), *arguments]
    return subprocess.run(
        command,
        cwd=SUITE.parents[2],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_right_kernels() -> None:
    done = under_sanitizer("-k", "right_kernels or lanes or axes or halves or do_not_meet")
    assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_kernels() -> None:
    done = under_sanitizer("--capture=no", "-k", "stores_beyond_a_block")
    assert "ERROR: AddressSanitizer: use-after-poison" in done.stderr, done.stdout + done.stderr
    assert "k_0" in done.stderr
