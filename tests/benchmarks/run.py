"""Measure symtensor beside whichever peers are installed, in one run, and print tables with ratios.

    python tests/benchmarks/run.py                              # every workload, every peer, 1 and 2 threads
    python tests/benchmarks/run.py --rows W2,W3a_f32 --peers numpy,jax --threads 1

Every (peer, workload) is a process of its own with an empty private cache. The processes of one workload are
started one after the other; then chunks of calls alternate between them while the others are stopped.
"""

import argparse
import importlib.util
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import imports  # noqa: E402
import report  # noqa: E402
from workloads import Workload, prepare, selected  # noqa: E402

QUIET = 1.15  # a chunk is quiet if a fixed loop before and after it took at most this times its best
SLOW_COMPILE_SECONDS = 3.0  # a peer slower than this is compiled only once


@dataclass(frozen=True)
class Peer:
    """How a peer is found (``needs`` must be importable) and started."""

    module: str
    needs: tuple[str, ...]
    variant: str = ""
    default: bool = True


PEERS = {
    "symtensor": Peer("p_symtensor", ("llvmlite",)),
    "numpy": Peer("p_numpy", ("numpy", "scipy")),
    "numba": Peer("p_numba", ("numba",)),
    "pytensor_c": Peer("p_pytensor", ("pytensor",), "c"),
    "pytensor_numba": Peer("p_pytensor", ("pytensor", "numba"), "numba", default=False),
    "jax": Peer("p_jax", ("jax",)),
    "torch": Peer("p_torch", ("torch",), "eager"),
    "torch_compile": Peer("p_torch", ("torch",), "compile", default=False),
}


def installed() -> list[str]:
    return [name for name, peer in PEERS.items() if all(importlib.util.find_spec(n) for n in peer.needs)]


def interpreters(named: list[str]) -> dict[str, str]:
    """The Python of each peer: this one, or as ``PEER=PATH`` says."""
    chosen = dict.fromkeys(installed(), sys.executable)
    for entry in named:
        name, _, path = entry.partition("=")
        if name not in PEERS or not Path(path).exists():
            raise SystemExit(f"--interpreter {entry}: expected PEER=PATH, with PEER one of {', '.join(PEERS)}")
        chosen[name] = path
    return {name: chosen[name] for name in PEERS if name in chosen}


class Process:
    """A worker, stopped whenever it is not the one being measured."""

    def __init__(
        self, name: str, python: str, row: Workload, threads: int, inputs: tuple[Path, Path], cache: Path
    ) -> None:
        peer = PEERS[name]
        cache.mkdir(parents=True, exist_ok=True)
        config = {
            "module": peer.module,
            "variant": peer.variant,
            "program": row.program,
            "dtype": row.dtype,
            "parameters": row.parameters,
            "tolerance": row.tolerance,
            "floor": row.floor,
            "deep": row.deep and name != "symtensor",
            "threads": threads,
            "inputs": str(inputs[0]),
            "reference": str(inputs[1]),
            "cache": str(cache),
        }
        environment = dict(os.environ)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling Python is not what is measured
        for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
            environment.pop(name, None)  # OpenBLAS chooses its kernels itself, for every peer that uses it
        for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB", "SYMTENSOR"):
            environment[f"{prefix}_NUM_THREADS"] = str(threads)
        environment["SYMTENSOR_CACHE_DIR"] = environment["TMPDIR"] = str(cache)
        environment["PYTHONWARNINGS"] = "ignore"
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(HERE), str(ROOT), str(ROOT / "codegen"), environment.get("PYTHONPATH", "")]
        )
        self.log = (cache.parent / f"{cache.name}.log").open("w+")
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), json.dumps(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=cache,
            env=environment, start_new_session=True,
        )  # fmt: skip

    def answer(self, timeout: float) -> dict[str, Any]:
        output = self.process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], timeout)
        if not ready:
            self.end()
            return {"error": f"no answer in {timeout:.0f} s"}
        line = output.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            said = self.log.read().strip().splitlines()
            return {"error": f"died with status {code}: {said[-1] if said else ''}"}
        return dict(json.loads(line))

    def ask(self, command: str, timeout: float) -> dict[str, Any]:
        self._signal(signal.SIGCONT)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": f"died with status {self.process.wait()}"}
        return self.answer(timeout)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def end(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


class Probe:
    """How much slower than at its best this machine is right now, by a fixed loop on each CPU."""

    def __init__(self) -> None:
        self.best = float("inf")

    def __call__(self, threads: int) -> float:
        available = sorted(os.sched_getaffinity(0))
        slowest = 0.0
        for cpu in available[-1:] if threads == 1 else available[:threads]:
            os.sched_setaffinity(0, {cpu})
            slowest = max(slowest, min(self._once() for _ in range(3)))
        os.sched_setaffinity(0, available)
        return slowest / self.best

    def _once(self) -> float:
        start = time.perf_counter()
        total = 0
        for i in range(50_000):
            total += i * i
        taken = time.perf_counter() - start
        self.best = min(self.best, taken)
        return taken

    def wait(self, threads: int) -> float:
        """The slow-down after waiting up to a third of a second for a quiet moment."""
        for _ in range(3):
            if (now := self(threads)) < QUIET:
                return now
            time.sleep(0.1)
        return self(threads)


def compiled(
    name: str, row: Workload, threads: int, inputs: tuple[Path, Path], work: Path, options: argparse.Namespace
) -> tuple[Process | None, dict[str, Any]]:
    """Compile in fresh processes, cold then warm; returns the last cold process, stopped, and the figures."""
    cold: list[dict[str, Any]] = []
    warm: list[dict[str, Any]] = []
    process = None
    for attempt in range(options.compile_rounds):
        cache = work / f"{row.name}.{name}.{threads}.{attempt}"
        if process is not None:
            process.end()
        process = Process(name, options.python[name], row, threads, inputs, cache)
        made = process.answer(options.timeout)
        if "build" not in made:
            process.end()
            return None, made
        cold.append(made)
        process.stop()
        if not options.no_warm and threads == 1:
            again = Process(name, options.python[name], row, threads, inputs, cache)
            answer = again.answer(options.timeout)
            again.end()
            if "build" in answer:
                warm.append(answer)
        if made["build"] + made["first"] > SLOW_COMPILE_SECONDS:
            break
    result = dict(cold[-1])
    result["cold"] = min(max(0.0, m["build"] + m["first"] - m["one"]) for m in cold)
    if warm:
        result["warm"] = min(max(0.0, m["build"] + m["first"] - m["one"]) for m in warm)
        result["warm_memory"] = min(m["compiled_memory"] for m in warm)
    result["import"] = min(m["import"] for m in [*cold, *warm])
    return process, result


def measure(
    row: Workload, names: list[str], threads: int, work: Path, options: argparse.Namespace, probe: Probe
) -> dict[str, Any]:
    """All figures of one workload: a dict per peer."""
    inputs = prepare(row, work)
    running: dict[str, Process] = {}
    results: dict[str, Any] = {}
    for name in names:
        process, results[name] = compiled(name, row, threads, inputs, work, options)
        if process is not None:
            running[name] = process
            results[name] |= {"chunks": [], "slow_downs": []}
    for _ in range(options.rounds * 2):
        for name, process in list(running.items()):
            result = results[name]
            quiet = sum(s < QUIET for s in result["slow_downs"])
            enough = options.rounds if result["one"] < 0.4 else 3
            if quiet >= enough or (result["one"] > 1.5 and len(result["chunks"]) >= 3):
                continue
            before = probe.wait(threads)
            answer = process.ask(f"chunk {options.seconds}", options.timeout)
            if "error" in answer:
                result["error"] = answer["error"]
                running.pop(name).end()
                continue
            process.stop()
            result["chunks"].append(answer["times"])
            result["slow_downs"].append(max(before, probe(threads)))
    for name, process in running.items():
        result = results[name]
        result |= process.ask("quit", options.timeout)
        process.end()
        summarise(result)
    for path in [*inputs, *work.glob(f"{row.name}.*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return results


def summarise(result: dict[str, Any]) -> None:
    """Replace the samples by their minimum and median, of quiet chunks where there are at least two."""
    chunks, slow = result.pop("chunks"), result.pop("slow_downs")
    quiet = [c for c, s in zip(chunks, slow, strict=True) if s < QUIET]
    used = quiet if len(quiet) >= 2 else chunks
    times = [t for c in used for t in c]
    medians = [statistics.median(c) for c in used]
    result["min"], result["median"] = min(times), statistics.median(times)
    result["noisy"] = len(quiet) < 2 or (max(medians) - min(medians)) > 0.25 * result["median"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure symtensor beside its peers.")
    parser.add_argument("--rows", default="", help="workloads, by name or program (default: all that peers share)")
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEERS)} (default: the installed that compile fast)")
    parser.add_argument(
        "--interpreter",
        action="append",
        default=[],
        metavar="PEER=PATH",
        help="run a peer with another Python",
    )
    parser.add_argument("--threads", default="1,2", help="thread counts")
    parser.add_argument("--rounds", type=int, default=6, help="quiet chunks per peer")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a chunk")
    parser.add_argument("--compile-rounds", type=int, default=3, help="fresh compilations; the fastest counts")
    parser.add_argument("--no-warm", action="store_true", help="do not compile again from the filled cache")
    parser.add_argument("--no-imports", action="store_true", help="leave out W12, the import times")
    parser.add_argument("--timeout", type=float, default=150, help="seconds for one compilation or chunk")
    parser.add_argument("--json", type=Path, help="write all figures here; a file that exists is added to")
    parser.add_argument("--markdown", type=Path, help="write the tables here too")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.python = interpreters(options.interpreter)
    found = list(options.python)
    names = options.peers.split(",") if options.peers else [n for n in found if PEERS[n].default]
    if missing := [n for n in names if n not in found]:
        raise SystemExit(f"not installed: {', '.join(missing)}; installed: {', '.join(found)}")
    figures: dict[str, Any] = {"rows": {}, "imports": {}}
    if options.json and options.json.exists():
        figures = json.loads(options.json.read_text())
    figures |= {
        "machine": report.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv[1:]),
    }
    probe = Probe()
    if not options.no_imports:
        figures["imports"] |= imports.measure(ROOT, options.python)
    with tempfile.TemporaryDirectory(prefix="symtensor-bench-") as folder:
        for row in selected(options.rows):
            peers = ["symtensor"] if row.alone and not options.peers else names
            for threads in map(int, options.threads.split(",")):
                results = measure(row, peers, threads, Path(folder), options, probe)
                figures["rows"].setdefault(row.name, {}).setdefault(str(threads), {}).update(results)
                print(report.line(row, threads, results), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(figures, indent=1))
    tables = report.tables(figures)
    print("\n" + tables)
    if options.markdown:
        options.markdown.write_text(tables)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
