"""One peer in one process: builds the programs of a row, checks what they give, times calls on demand.

Started by ``bench.py`` with a JSON object; answers one JSON line for each line of standard input: ``prepare ROW`` (a
JSON object), ``time SECONDS [check]``, ``drop``, ``quit``. What libraries print goes to standard error.
"""

import gc
import importlib
import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from programs_of_peers import Inputs, NotSupported, Program

GROUP_SECONDS = 0.01  # calls between two synchronisations last about this long, so that waiting costs nothing
WARM_SECONDS = 0.05
ENOUGH = 0.6  # no variant is begun after this share of the time for building a row
POISONED_BYTES = 1 << 10
PIECE = 1 << 21  # elements that a thread compares at a time


def loaded(path: str) -> Any:
    return np.load(path, mmap_mode="r")


def difference(found: Any, expected: Any, start: Any = None) -> float:
    """The norm of the difference over that of what is expected; of the changes since ``start``, where it is given.

    Of integers and booleans, the share that is wrong.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind in "bi":
        return float((found != expected).mean())
    a, b = found.reshape(-1), expected.reshape(-1)
    origin = None if start is None else np.asarray(start).reshape(-1)

    def squares(begin: int) -> tuple[float, float]:
        part = slice(begin, begin + PIECE)
        wanted = b[part]
        gap = a[part] - wanted
        if origin is not None:
            wanted = wanted - origin[part]
        return float(np.dot(gap, gap)), float(np.dot(wanted, wanted))

    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:
        sums = list(threads.map(squares, range(0, max(1, a.size), PIECE)))
    off, size = (math.fsum(column) for column in zip(*sums, strict=True))
    return (off / size) ** 0.5 if size else off**0.5


class Worker:
    """The programs of one row in one peer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.peer = importlib.import_module(config["module"])
        self.programs: dict[str, Program] = {}
        self.row: dict[str, Any] = {}
        self.inputs: Inputs | None = None
        self.poisons: dict[tuple[int, ...], Any] = {}

    def setup(self) -> dict[str, Any]:
        start = time.perf_counter()
        versions = self.peer.setup(self.config)
        return {"versions": versions, "seconds": time.perf_counter() - start}

    def prepare(self, row: dict[str, Any]) -> dict[str, Any]:
        """Build and check all variants: what each took to build, or what is wrong."""
        begin = time.perf_counter()
        self.drop()
        self.row = row
        make = getattr(self.peer, row["program"], None)
        if make is None:
            raise NotSupported("not written for this peer")
        self.peer.precision(row["tf32"])
        host = [{k: np.array(loaded(v)) for k, v in one.items()} for one in row["sets"]]
        device = [{} if row["host"] else {k: self.peer.put(v) for k, v in one.items()} for one in host]
        shared = {k: np.array(loaded(v)) for k, v in row["shared"].items()}
        self.inputs = Inputs(shared, host, device, row["parameters"])
        answers = {}
        for name, build in make(self.inputs).items():
            if self.config["variants"] and name not in self.config["variants"]:
                continue
            if time.perf_counter() - begin > ENOUGH * row["seconds"]:
                answers[name] = {"unsupported": "no time was left to build it"}
                continue
            try:
                answers[name] = self._built(name, build)
            except Exception as error:  # whatever a peer raises is its result
                answers[name] = self.failure(error)
            gc.collect()
        return {"variants": answers}

    def _built(self, name: str, build: Callable[[], Program]) -> dict[str, Any]:
        start = time.perf_counter()
        program = build()
        first = program.call(0)
        self.peer.synchronize()
        seconds = time.perf_counter() - start
        wrong = self._wrong(program, first)
        self.programs[name] = program
        return {"build": seconds, "errors": wrong[0], "wrong": wrong[1]}

    def _wrong(self, program: Program, first: tuple[Any, ...] | None) -> tuple[dict[str, float], dict[str, float]]:
        """The errors of all results (and of the state after the steps), and those above the tolerance."""
        expected = [[loaded(path) for path in one] for one in self.row["results"]]
        errors: dict[str, float] = {}
        for k, wanted in enumerate(expected):
            if k or first is None:
                first = None
                self._poison(wanted)
                first = program.call(k % max(1, len(self.row["sets"])))
            found = [self.peer.take(value) for value in first]
            first = None
            if len(found) != len(wanted):
                raise ValueError(f"{len(found)} results for {len(wanted)}")
            for j, (one, other) in enumerate(zip(found, wanted, strict=True)):
                key = f"result {j}"
                errors[key] = worse(errors.get(key, 0.0), difference(one, other))
                kind = np.asarray(one).dtype
                if other.dtype.kind == "f" and kind != self.row["dtype"]:
                    raise ValueError(f"{key} is {kind}, not {self.row['dtype']}")
        if self.row["state"]:
            assert program.state is not None
            assert self.inputs is not None
            state = program.state()
            for key, path in self.row["state"].items():
                errors[f"state {key}"] = difference(state[key], loaded(path), self.inputs.shared[key])
        allowed = self.row["tolerance"]
        return errors, {key: error for key, error in errors.items() if not error <= allowed}

    def _poison(self, wanted: list[Any]) -> None:
        """Leave NaN in the memory that the results will probably get, so that what is not written shows."""
        for array in wanted:
            if array.nbytes >= POISONED_BYTES and array.dtype.kind == "f" and not self.row["host"]:
                if array.shape not in self.poisons:
                    self.poisons[array.shape] = np.full(array.shape, np.nan, self.row["dtype"])
                self.peer.put(self.poisons[array.shape])
        self.peer.synchronize()

    def time(self, seconds: float, check: bool) -> dict[str, Any]:
        """Seconds per call of each variant; ``check``: what keeps no state is compared once more."""
        answers = {}
        for name, program in list(self.programs.items()):
            try:
                answers[name] = measured(program.call, len(self.row["sets"]), self.peer.synchronize, seconds)
                if check and not self.row["state"]:
                    answers[name]["wrong"] = self._wrong(program, None)[1]
            except Exception as error:  # whatever a peer raises is its result
                answers[name] = self.failure(error)
                self.programs.pop(name)
        return {"variants": answers}

    def drop(self) -> dict[str, Any]:
        self.programs.clear()
        self.poisons.clear()
        self.inputs = None
        gc.collect()
        self.peer.forget()
        return {}

    def failure(self, error: Exception) -> dict[str, Any]:
        """What went wrong, and whether the device still answers."""
        if isinstance(error, NotSupported):
            return {"unsupported": str(error)}
        traceback.print_exc()
        answer: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"[:600]}
        try:
            self.peer.synchronize()
        except Exception:  # a fault that stays: this process is of no use any more
            answer["broken"] = True
        return answer


def worse(a: float, b: float) -> float:
    """The larger of two errors; NaN is the largest."""
    return b if b != b or b > a else a


def measured(call: Callable[[int], Any], sets: int, synchronize: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """The time of a call, from groups of calls between two synchronisations: their median, minimum and quartiles."""
    clock = time.perf_counter

    def group(count: int) -> float:
        synchronize()
        begin = clock()
        for k in range(count):
            call(k % sets)
        synchronize()
        return (clock() - begin) / count

    sets = max(1, sets)
    count, spent = 1, 0.0
    while True:
        one = group(count)
        spent += one * count
        if spent >= min(WARM_SECONDS, seconds):
            break
        count *= 2
    count = max(1, round(min(GROUP_SECONDS, seconds / 5) / one))
    times: list[float] = []
    gc.collect()
    gc.disable()
    end = clock() + seconds
    while len(times) < 3 or clock() < end:
        times.append(group(count))
        if len(times) >= 3 and times[-1] * count > seconds:
            break
    gc.enable()
    low, _, high = statistics.quantiles(times, n=4)
    return {
        "median": statistics.median(times),
        "minimum": min(times),
        "quartiles": [low, high],
        "groups": len(times),
        "calls": count,
    }


def main() -> None:
    config = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: Worker | None = None

    def answer(make: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        try:
            reply = make(*arguments)
        except Exception as error:  # whatever a peer raises is its result
            if worker is None:
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {error}"[:600]}
            else:
                reply = worker.failure(error)
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    def start() -> dict[str, Any]:
        nonlocal worker
        made = Worker(config)
        reply = made.setup()
        worker = made
        return reply

    answer(start)
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "quit" or worker is None:
            break
        match command:
            case "prepare":
                answer(worker.prepare, json.loads(rest))
            case "time":
                seconds, _, check = rest.partition(" ")
                answer(worker.time, float(seconds), check == "check")
            case "drop":
                answer(worker.drop)
    os._exit(0)  # some peers' threads outlive an ordinary exit


if __name__ == "__main__":
    main()
