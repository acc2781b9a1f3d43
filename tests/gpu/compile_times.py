"""How long compiling takes: whole functions, cold and from a filled store, and kernel by kernel.

A kernel's cold time is writing its text, compiling it and loading the code; its cached time is finding the code on
disk and loading it. On a machine without a device the same is measured for an architecture, nothing is loaded and no
function is called.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import gpu_symtensor  # noqa: E402
from programs_of_peers import Inputs  # noqa: E402
from rows import DRAWS, ROWS  # noqa: E402

MEASURED = ("G3_f32", "row_sum_tall", "row_max_wide", "full_sum", "G4", "G5", "G7", "G3_prices", "W2_host")
LIMITS = {"cold": 0.060, "cached": 0.002}  # seconds for a kernel
REPEATS = 5


def inputs_of(row: Any) -> Inputs:
    data = DRAWS[row.data](row.small, row.dtype, 1)
    device = [{k: gpu_symtensor.put(v) for k, v in one.items()} for one in data.sets]
    return Inputs(data.shared, data.sets, device, row.parameters)


def built(row: Any, calls: bool) -> tuple[Any, float, float]:
    """The compiled function, and the seconds that building it and the first call took."""
    inputs = inputs_of(row)
    build = getattr(gpu_symtensor, row.program)(inputs)["symtensor"]
    start = time.perf_counter()
    program = build()
    middle = time.perf_counter()
    if calls:
        program.call(0)
        gpu_symtensor.synchronize()
    return program, middle - start, time.perf_counter() - middle


def whole(rows: list[Any], calls: bool) -> dict[str, Any]:
    """Each function built once in this process; what is needed once is there before the first."""
    figures: dict[str, Any] = {}
    built(next(row for row in ROWS if row.name == "overhead"), calls)  # the device, the compiler, the imports
    for row in rows:
        try:
            program, function, first = built(row, calls)
        except Exception as error:  # one that fails does not hide the others
            figures[row.name] = {"error": f"{type(error).__name__}: {error}"[:600]}
            continue
        figures[row.name] = {"function": function, "first call": first}
        native = program.function.compilation.native
        figures[row.name] |= {name: getattr(native, name, None) for name in ("hits", "compiled")}
    return figures


def each(rows: list[Any], calls: bool) -> dict[str, Any]:
    """Every kernel of the functions, one by one."""
    figures: dict[str, Any] = {}
    for row in rows:
        try:
            figures[row.name] = one_by_one(row)
        except Exception as error:  # one that fails does not hide the others
            figures[row.name] = {"error": f"{type(error).__name__}: {error}"[:600]}
    return figures


def one_by_one(row: Any) -> dict[str, Any]:
    """The kernels that building the function asks for, each compiled again alone, and found again on disk."""
    from symtensor_codegen import cache
    from symtensor_codegen.cuda.compiling import kernels as store

    asked: list[Any] = []

    def noted(make: Any) -> Any:
        def wrapped(wanted: Any, place: Any, emitter: Any) -> Any:
            asked.extend((make, one, place, emitter) for one in wanted)
            return make(wanted, place, emitter)

        return wrapped

    load, compile_for = store.load, store.compile_for  # for a device, and for an architecture
    store.load, store.compile_for = noted(load), noted(compile_for)
    try:
        described = built(row, False)[0].function.compilation.native.resources()
    finally:
        store.load, store.compile_for = load, compile_for
    used = [resources for variant in described.values() for resources in variant.values()]
    del described
    gc.collect()
    cache.configure(memory_limit=0)  # what is cached is read from disk
    found = []
    for wanted in asked:
        cache.clear()
        cold, _ = loaded(*wanted)
        again = [loaded(*wanted) for _ in range(REPEATS)]
        cache.clear()
        cold = min(cold, loaded(*wanted)[0])
        name = getattr(wanted[1], "kernel", wanted[1]).name
        cached, scheduling = (statistics.median(times) for times in zip(*again, strict=True))
        found.append({"name": name, "cold": cold, "cached": cached, "cached, its schedule": scheduling})
    return {
        "kernels": found,
        "registers": max((one.registers for one in used), default=0),
        "spilled": sum(one.spill_bytes for one in used),
    }


def loaded(make: Any, one: Any, place: Any, emitter: Any) -> tuple[float, float]:
    """Seconds until a kernel is there, and those of them in which its form was found; it is dropped again."""
    scheduling = 0.0

    def schedule(*kernel: Any) -> Any:
        nonlocal scheduling
        begin = time.perf_counter()
        made = emitter.schedule(*kernel)
        scheduling += time.perf_counter() - begin
        return made

    timed = emitter._replace(schedule=schedule)
    start = time.perf_counter()
    with nullcontext() if isinstance(place, str) else place.current():
        code = make([one], place, timed)
    taken = time.perf_counter() - start
    del code
    gc.collect()
    return taken, scheduling


def stage(options: argparse.Namespace) -> None:
    rows = [row for row in ROWS if row.name in MEASURED]
    gpu_symtensor.setup({"device": options.device})
    figures = (each if options.stage == "each" else whole)(rows, options.device == "cuda")
    options.out.write_text(json.dumps(figures))


def in_process(name: str, options: argparse.Namespace, folder: Path, store: str) -> dict[str, Any]:
    out = folder / f"{name}.json"
    environment = dict(os.environ, SYMTENSOR_CACHE_DIR=str(folder / store))
    command = [sys.executable, __file__, "--stage", name, "--device", options.device, "--out", str(out)]
    done = subprocess.run(command, env=environment, timeout=options.seconds)
    if done.returncode or not out.exists():
        raise RuntimeError(f"stage {name} ended with status {done.returncode}")
    return dict(json.loads(out.read_text()))


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """The worst and the median kernel, against what is asked."""
    kernels = [k for one in figures["each"].values() for k in one.get("kernels", [])]
    if not kernels:
        return {"kernels": 0}
    made: dict[str, Any] = {"kernels": len(kernels)}
    for name, limit in LIMITS.items():
        times = sorted(k[name] for k in kernels)
        made[name] = {
            "median": statistics.median(times), "worst": times[-1], "limit": limit,
            "above": sum(t > limit for t in times),
        }  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Time compilation for a device or an architecture.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", help="cuda, or an architecture: cuda:sm_90")
    parser.add_argument("--stage", choices=("cold", "cached", "each"), help="one stage, in this process")
    parser.add_argument("--seconds", type=float, default=60, help="time for each stage")
    options = parser.parse_args()
    if options.stage:
        stage(options)
        return
    figures: dict[str, Any] = {"device": options.device}
    with tempfile.TemporaryDirectory(prefix="symtensor-gpu-") as name:
        folder = Path(name)
        for one, store in (("cold", "store"), ("cached", "store"), ("each", "other")):
            try:
                figures[one] = in_process(one, options, folder, store)
            except Exception as error:  # what is there so far stays
                figures[one] = {}
                figures.setdefault("failures", []).append(f"{one}: {error}")
            figures["summary"] = summary(figures) if one == "each" else {}
            options.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures["summary"], indent=1))


if __name__ == "__main__":
    main()
