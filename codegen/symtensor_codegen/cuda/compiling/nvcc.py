"""The compiler of a CUDA toolkit, for machines without NVRTC: the same work in half a second instead of 40 ms."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from symtensor_codegen.cuda.compiling.nvrtc import Outcome, toolkit_folders

__all__ = ["compile_text", "find", "release"]


@functools.cache
def find() -> str | None:
    """The program, from a toolkit that the environment names or from the search path; None where there is none."""
    for folder in toolkit_folders():
        if (folder / "bin" / "nvcc").is_file():
            return str(folder / "bin" / "nvcc")
    return shutil.which("nvcc")


@functools.cache
def release(program: str) -> str:
    """Name and number of the compiler."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + told.partition("release ")[2].partition("\n")[0].strip()


def compile_text(program: str, source: str, name: str, architecture: str, form: str) -> Outcome:
    """Compile `source`, called `name` in messages, to `form`: "CUBIN" or "PTX"."""
    with tempfile.TemporaryDirectory(prefix="symtensor-") as folder:
        text, out = Path(folder, name), Path(folder, "code")
        text.write_text(source)
        command = [program, f"-{form.lower()}", f"-arch={architecture}", "-std=c++17", "-w", "-Xptxas=-v", "-o"]
        run = subprocess.run([*command, out, text], capture_output=True, text=True)
        log = (run.stdout + run.stderr).replace(f"{folder}{os.sep}", "").strip()
        return Outcome(out.read_bytes() if run.returncode == 0 else None, log)
