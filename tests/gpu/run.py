"""Everything that needs a GPU, in parts that cannot hide each other: facts, tests, programs, compiling, benchmarks.

    python tests/gpu/run.py                        # all parts, at most nine minutes
    python tests/gpu/run.py --quick                # facts and a handful of benchmarks, under two minutes
    python tests/gpu/run.py --only G4,G5           # some benchmarks (or parts: facts, suite, programs, compile, bench)
    python tests/gpu/run.py --dry-run              # the same programs on a machine without a GPU
    python tests/gpu/run.py --dry-run shim         # and there with the code for the GPU, run by the processor

Each part is a process with a time limit. The results so far are in ``results.json`` at every moment, the tables in
``results.md`` at the end of every part.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import result_tables as tables  # noqa: E402
from rows import ROWS, selected  # noqa: E402

TOTAL_SECONDS = 530.0  # of all parts; under nine minutes
SUITE = ["tests", "--ignore=tests/programs", "--ignore=tests/gpu"]
PROGRAMS = ["tests/programs"]
WORKERS = 8  # processes of pytest, as far as there are processors


@dataclass(frozen=True)
class Part:
    """A command, for how long it may run, and where it writes its figures.

    One that is ``told`` gets an option ``--seconds``: all the time that is left, and no row is begun too late.
    """

    name: str
    seconds: float
    command: list[str]
    out: Path
    told: bool = False


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def pytest_command(arguments: list[str], dry: bool) -> list[str]:
    """Run pytest without the plugins that happen to be installed here, but with those that help."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "outcomes", "-p", "no:cacheprovider"]
    command += arguments
    if dry:
        return [*command, "--collect-only"]
    if has("pytest_timeout"):
        command += ["-p", "pytest_timeout", "--timeout", "60"]
    workers = min(WORKERS, len(os.sched_getaffinity(0)))
    if has("xdist") and workers > 1:
        command += ["-p", "xdist.plugin", "-n", str(workers)]
    return command


def parts(options: argparse.Namespace, folder: Path) -> list[Part]:
    """What is to be run, in order."""
    dry = options.dry_run is not None
    wanted = [name for name in options.only.split(",") if name]
    known = ("facts", "suite", "programs", "compile", "bench")
    rows = [name for name in wanted if name not in known]
    selected(rows, False)
    python = [sys.executable]

    def out(name: str) -> Path:
        return folder / f"{name}.json"

    bench = [*python, str(HERE / "bench.py"), "--out", str(out("bench"))]
    seconds = 95.0 if options.quick else 270.0
    if rows:
        bench += ["--rows", ",".join(rows)]
    if options.peers:
        bench += ["--peers", options.peers]
    if options.quick:
        bench += ["--quick", "--time", "0.1"]
    if dry:
        bench += ["--device", options.dry_run, "--small", "--time", "0.02", "--rounds", "1"]
    target = "cuda:sm_90" if dry else "cuda"
    made = [
        Part("facts", 40, [*python, str(HERE / "facts.py"), "--out", str(out("facts")), *["--no-device"] * dry],
             out("facts")),
        Part("suite", 160, pytest_command(SUITE, dry), folder / "suite.lines"),
        Part("programs", 45, pytest_command(PROGRAMS, dry), folder / "programs.lines"),
        Part("compile", 40, [*python, str(HERE / "compile_times.py"), "--out", str(out("compile")), "--device", target],
             out("compile")),
        Part("bench", seconds, bench, out("bench"), told=True),
    ]  # fmt: skip
    if options.quick:
        keep = {"facts", "bench"}
    elif wanted:
        keep = {"facts", *[name for name in wanted if name in known], *["bench"] * bool(rows)}
    else:
        keep = set(known)
    return [part for part in made if part.name in keep]


def environment(part: Part) -> dict[str, str]:
    made = dict(os.environ)
    paths = [str(ROOT), str(ROOT / "codegen"), str(HERE), made.get("PYTHONPATH", "")]
    made["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    made["PYTHONUNBUFFERED"] = "1"
    if part.name in ("suite", "programs"):
        made["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        made["SYMTENSOR_TEST_DEVICES"] = "cuda"
        made["SYMTENSOR_OUTCOMES"] = str(part.out)
    return made


class Run:
    """The parts, and one record of their results that is written again and again."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.target = options.results
        self.target.mkdir(parents=True, exist_ok=True)
        self.log = (self.target / "log.txt").open("w")
        self.parts = parts(options, folder)
        self.deadline = time.monotonic() + options.seconds
        self.child: subprocess.Popen[bytes] | None = None
        self.record: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(sys.argv[1:]),
            "dry": options.dry_run is not None,
            "parts": {part.name: {"status": "waiting"} for part in self.parts},
        }

    def run(self) -> bool:
        """Run all parts; whether each of them ended well."""
        self.write()
        for part in self.parts:
            left = self.deadline - time.monotonic()
            limit = left if part.told and not self.options.quick else min(part.seconds, left)
            if limit < 5:
                self.record["parts"][part.name] = {"status": "no time was left"}
                continue
            self.one(part, limit)
            self.write(True)
        self.write(True)
        return all(part["status"] == "ok" for part in self.record["parts"].values())

    def one(self, part: Part, limit: float) -> None:
        begin = time.monotonic()
        state = self.record["parts"][part.name] = {"status": "running", "limit": round(limit)}
        command = [*part.command, *["--seconds", f"{limit - 10:.0f}"] * part.told]
        self.say(f"== {part.name}, at most {limit:.0f} s: {' '.join(command)}")
        self.child = subprocess.Popen(
            command, cwd=ROOT, env=environment(part), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = self.followed(self.child, part, begin + limit)
        finally:
            self.stop(self.child)
            self.child = None
        state["seconds"] = round(time.monotonic() - begin, 1)
        if code is None:
            state["status"] = f"ran over its {limit:.0f} s"
        elif code == 5 and part.name in ("suite", "programs"):
            state["status"] = "no test was selected"
        else:
            state["status"] = "ok" if code == 0 else f"ended with status {code}"
        self.collect(part)
        self.say(f"== {part.name}: {state['status']}, {state['seconds']} s")

    def followed(self, child: "subprocess.Popen[bytes]", part: Part, end: float) -> int | None:
        """Copy what the part prints, keep the record up to date; the exit status, None when time is up."""
        assert child.stdout is not None
        stream = child.stdout.fileno()
        os.set_blocking(stream, False)
        written = time.monotonic()
        while True:
            now = time.monotonic()
            try:
                said = os.read(stream, 1 << 16)
            except BlockingIOError:
                said = None
            if said:
                self.say(said.decode(errors="replace"), end="")
                continue
            if child.poll() is not None:
                return child.returncode
            if now > end:
                return None
            if now - written > 2:
                self.collect(part)
                self.write()
                written = now
            time.sleep(0.05)

    def collect(self, part: Part) -> None:
        """What the part has written so far."""
        if not part.out.exists():
            return
        if part.out.suffix == ".lines":
            lines = [json.loads(line) for line in part.out.read_text().splitlines() if line.endswith("}")]
            counts = Counter(line["outcome"] for line in lines)
            failed = [line for line in lines if line["outcome"] in ("failed", "error")]
            slow = sorted(lines, key=lambda line: -line["seconds"])[:10]
            self.record[part.name] = {"counts": dict(counts), "failed": failed[:400], "slowest": slow}
            return
        try:
            self.record[part.name] = json.loads(part.out.read_text())
        except ValueError:
            return  # being written

    def write(self, also_tables: bool = False) -> None:
        path = self.target / "results.json"
        new = path.with_suffix(".part")
        new.write_text(json.dumps(self.record, indent=1))
        new.replace(path)
        if also_tables:
            (self.target / "results.md").write_text(self.tables())

    def tables(self) -> str:
        """The tables; what cannot be shown does not end the run."""
        try:
            return tables.markdown(self.record)
        except Exception as error:
            return f"The tables could not be made ({type(error).__name__}: {error}); see results.json.\n"

    def say(self, text: str, end: str = "\n") -> None:
        self.log.write(text + end)
        self.log.flush()
        with contextlib.suppress(OSError):  # nobody may be listening any more
            print(text, end=end, flush=True)

    def stop(self, child: "subprocess.Popen[bytes]") -> None:
        """End a part and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                break
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:
                continue
        child.wait()

    def stopped(self, number: int, frame: FrameType | None) -> None:
        """This run is being ended: keep what there is."""
        if self.child is not None:
            self.stop(self.child)
        for part in self.parts:
            self.collect(part)
            state = self.record["parts"][part.name]
            if state["status"] in ("running", "waiting"):
                state["status"] = "the run was ended"
        self.write(True)
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(128 + number)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run everything that needs a GPU.")
    parser.add_argument("--results", type=Path, default=Path("gpu-results"), help="folder for results and tables")
    parser.add_argument("--quick", action="store_true", help="facts and a handful of benchmarks")
    parser.add_argument("--only", default="", help=f"parts, or rows: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--peers", default="", help="of symtensor, torch, jax, cupy (default: all that are installed)")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all parts together")
    parser.add_argument("--dry-run", nargs="?", const="cpu", choices=("cpu", "shim"),
                        help="no device: small arrays on the CPU, or (shim) CUDA code that the CPU runs")  # fmt: skip
    options = parser.parse_args()
    options.results = options.results.resolve()
    return options


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="symtensor-gpu-", ignore_cleanup_errors=True) as folder:
        run = Run(options, Path(folder))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, run.stopped)
        well = run.run()
        print("\n" + run.tables())
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
