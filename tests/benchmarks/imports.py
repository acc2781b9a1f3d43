"""W12: what importing costs, in wall time and memory, each in fresh processes that take turns."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 9
ALWAYS = {
    "python": "pass",
    "numpy": "import numpy",
    "numpy + llvmlite": "import numpy, llvmlite.binding",
}
OF_PEERS = {
    "symtensor": "import symtensor, symtensor.tensor",
    "jax": "import jax, jax.numpy",
    "numba": "import numba",
    "pytensor_c": "import pytensor, pytensor.tensor",
    "torch": "import torch",
}
_MEMORY = """
import pathlib, sys
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else ["VmHWM: 0"]
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def measure(root: Path, interpreters: dict[str, str]) -> dict[str, dict[str, float]]:
    """Seconds (``min``, ``median``) and peak bytes (``memory``) of each import that can be had here."""
    statements = ALWAYS | {peer: code for peer, code in OF_PEERS.items() if peer in interpreters}
    path = [str(root), str(root / "codegen"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(name: str, code: str) -> str:
        command = [interpreters.get(name, sys.executable), "-c", code]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    times: dict[str, list[float]] = {name: [] for name in statements}
    for turn in range(ROUNDS + 1):
        for name, code in statements.items():
            start = time.perf_counter()
            run(name, code)
            if turn:  # the first turn fills the file cache and writes byte code
                times[name].append(time.perf_counter() - start)
    return {
        name: {
            "min": min(times[name]),
            "median": statistics.median(times[name]),
            "memory": int(run(name, code + _MEMORY)) * 1024,
        }
        for name, code in statements.items()
    }
