"""Machine code made readable: the instructions of a cubin, by NVIDIA's disassembler where one is installed."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from symtensor_codegen.cuda.compiling import nvrtc
from symtensor_codegen.cuda.compiling.compile import CompilerMissingError
from symtensor_codegen.errors import InternalError

__all__ = ["disassembler", "sass"]


@functools.cache
def disassembler() -> tuple[str, ...] | None:
    """The command that prints a cubin's instructions (the file's name is to be added); None where there is none."""
    for name, option in (("nvdisasm", "-c"), ("cuobjdump", "-sass")):
        for folder in (*nvrtc.wheel_folders(), *nvrtc.toolkit_folders()):
            if (folder / "bin" / name).is_file():
                return str(folder / "bin" / name), option
        found = shutil.which(name)
        if found is not None:
            return found, option
    return None


def sass(cubin: bytes) -> str:
    """The instructions of `cubin` as text. Raises CompilerMissingError where no disassembler is installed."""
    command = disassembler()
    if command is None:
        raise CompilerMissingError(
            "no CUDA disassembler was found: install one with `pip install nvidia-cuda-nvdisasm`, or name a CUDA "
            'toolkit in the environment variable CUDA_HOME. source("ptx") needs none'
        )
    with tempfile.TemporaryDirectory(prefix="symtensor-") as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        run = subprocess.run([*command, path], capture_output=True, text=True)
    if run.returncode:
        raise InternalError(f"{command[0]} cannot read the cubin: {run.stderr.strip()}")
    return run.stdout
