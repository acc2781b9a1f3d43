"""Programs run in processes of their own, with the folders of the tests' own import path."""

import os
import subprocess
import sys
from pathlib import Path

PATH = os.pathsep.join(filter(None, sys.path))


def start(program: str, cache: Path | str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """A process that runs a program with this folder as its kernel cache."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": PATH, "SYMTENSOR_CACHE_DIR": str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: "subprocess.Popen[str]", seconds: float = 120) -> str:
    """What a process printed; a failure of the process is one of the test."""
    printed, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    return printed


def run(program: str, cache: Path | str, *arguments: str, **environment: str) -> str:
    """Run a program to its end; what it printed."""
    return output(start(program, cache, *arguments, **environment))
