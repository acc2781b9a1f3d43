"""One peer, one workload, one process: compile, check, then time chunks of calls on demand.

Started by ``run.py`` with one argument, a JSON object. Answers one JSON line for the compilation and one per
command read from standard input (``chunk <seconds>`` or ``quit``). What libraries print goes to stderr.
"""

import gc
import importlib
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 0.05
CHUNK_SAMPLE_SECONDS = 0.002  # short calls are timed in groups of about this long


def memory(key: str) -> int:
    """Bytes of resident memory: ``VmRSS`` now, ``VmHWM`` at most so far; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def aligned(array: Any) -> Any:
    """A copy whose data begins at a multiple of 64, so that no peer has to copy it."""
    import numpy as np

    if array.nbytes < 1 << 16:
        return np.array(array)
    buffer = np.empty(array.nbytes + 64, np.uint8)
    offset = -buffer.ctypes.data % 64
    copy = buffer[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def difference(found: Any, expected: Any, floor: float = 0.0) -> float:
    """The largest difference over the largest expected value (or ``floor``, if that is more).

    Of integers and booleans, the share that is wrong.
    """
    import numpy as np

    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind in "bi":
        return float((found != expected).mean())
    scale = max(float(np.abs(expected).max()), floor) or 1.0
    a, b = found.reshape(-1), expected.reshape(-1)
    worst = 0.0
    for start in range(0, a.size, 1 << 20):  # in pieces, so that checking does not raise the memory peak much
        piece = float(np.abs(a[start : start + (1 << 20)].astype("float64") - b[start : start + (1 << 20)]).max())
        if piece != piece:
            return piece
        worst = max(worst, piece)
    return worst / scale


class Worker:
    """The compiled program of one peer and what is measured of it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def compile(self) -> dict[str, Any]:
        config = self.config
        clock = time.perf_counter
        start = clock()
        peer = importlib.import_module(config["module"])
        versions = peer.setup(config)
        imported = clock() - start
        import numpy as np

        with np.load(config["inputs"]) as stored:
            inputs = {k: aligned(stored[k]) for k in stored.files}
        gc.collect()
        base = memory("VmRSS")
        if not hasattr(peer, config["program"]):
            return {"unsupported": "not written for this peer"}
        start = clock()
        cpu = time.process_time()
        self.call, state = getattr(peer, config["program"])(inputs, config["parameters"])
        built = clock()
        outputs = self.call()
        first = clock()
        report = {
            "versions": versions,
            "import": imported,
            "build": built - start,
            "first": first - built,
            "compile_cpu": time.process_time() - cpu,
            "base_memory": base,
            "compiled_memory": memory("VmHWM"),
        }
        report["wrong"] = self._check(outputs, state)
        del outputs
        report["one"] = self._settle()
        return report

    def _check(self, outputs: tuple[Any, ...], state: Any) -> dict[str, float]:
        """Outputs of the first call and state after three, where they are off by more than the tolerance."""
        import numpy as np

        tolerance = self.config["tolerance"]
        with np.load(self.config["reference"]) as stored:
            expected = {k: stored[k] for k in stored.files}
        found: dict[str, Any] = {f"out{k}": value for k, value in enumerate(outputs)}
        if state is not None:
            self.call()
            self.call()
            found |= {f"state_{k}": value for k, value in state().items()}
        if missing := set(expected) ^ set(found):
            raise ValueError(f"results differ in number: {sorted(missing)}")
        wrong = {}
        for key, value in expected.items():
            off = difference(found[key], value, self.config["floor"])
            allowed = 1e-3 if value.dtype.kind in "bi" else tolerance * (5 if key.startswith("state_") else 1)
            if not off <= allowed:
                wrong[key] = off
        return wrong

    def _settle(self) -> float:
        """Call until times are steady; returns the shortest and chooses how many calls one sample holds."""
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - start < SETTLE_SECONDS and len(times) < 200):
            begin = time.perf_counter()
            self.call()
            times.append(time.perf_counter() - begin)
            if times[-1] > 2:
                break
        one = min(times)
        self.group = max(1, int(CHUNK_SAMPLE_SECONDS / one)) if one < CHUNK_SAMPLE_SECONDS / 2 else 1
        return one

    def chunk(self, seconds: float) -> dict[str, Any]:
        call, group, clock = self.call, range(self.group), time.perf_counter
        times: list[float] = []
        call()
        gc.collect()
        gc.disable()
        end = clock() + seconds
        while not times or clock() < end:
            begin = clock()
            for _ in group:
                call()
            times.append((clock() - begin) / len(group))
        gc.enable()
        return {"times": times}


def serve(config: dict[str, Any]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(config)

    def answer(make: Any, *arguments: Any) -> None:
        try:
            reply = make(*arguments)
        except Exception as error:  # whatever a peer raises is its result
            traceback.print_exc()
            kind = "unsupported" if type(error).__name__ == "NotSupported" else "error"
            reply = {kind: f"{type(error).__name__}: {error}"[:600]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    answer(worker.compile)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "quit":
            answer(lambda: {"peak_memory": memory("VmHWM")})
            break
        answer(worker.chunk, float(arguments[0]))
    os._exit(0)  # some peers' threads outlive an ordinary exit


def main() -> None:
    config = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        available = sorted(os.sched_getaffinity(0))
        count = config["threads"]
        os.sched_setaffinity(0, available[-1:] if count == 1 else available[:count])
    if config["deep"]:
        sys.setrecursionlimit(200_000)
        threading.stack_size(512 << 20)
        thread = threading.Thread(target=serve, args=(config,))
        thread.start()
        thread.join()
    else:
        serve(config)


if __name__ == "__main__":
    main()
