"""The benchmarks: every peer in a process of its own, all of them on the same inputs, row after row.

The peers build and check a row side by side (compiling takes most of the time), then they are timed one after the
other, twice. The figures so far are written after every row.
"""

import argparse
import importlib.util
import json
import os
import select
import shutil
import signal
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

from rows import Files, Row, selected  # noqa: E402

PEERS = {  # the module of a peer, and what must be importable
    "symtensor": ("gpu_symtensor", "numpy"),
    "torch": ("gpu_torch", "torch"),
    "jax": ("gpu_jax", "jax"),
    "cupy": ("gpu_cupy", "cupy"),
}
START_SECONDS = 90.0
ENOUGH_MEMORY = 24 << 30
QUICK_VARIANTS = ("symtensor", "torch", "torch.compile", "torch.compile + CUDA graph", "jax", "cupy")


@dataclass
class Peer:
    """A peer's process, started again when it has died."""

    name: str
    options: argparse.Namespace
    folder: Path
    process: "subprocess.Popen[str] | None" = None
    state: str = ""
    versions: dict[str, str] | None = None

    def start(self) -> None:
        variants = list(QUICK_VARIANTS) if self.options.quick else []
        config = {
            "module": PEERS[self.name][0],
            "device": self.options.device,
            "cache": str(self.folder),
            "variants": variants,
        }
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(HERE), str(ROOT), str(ROOT / "codegen"), environment.get("PYTHONPATH", "")]
        )
        environment["SYMTENSOR_CACHE_DIR"] = str(self.folder / "symtensor")
        environment["PYTHONWARNINGS"] = "ignore"
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), json.dumps(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.buffer = b""
        self.versions = None

    def ready(self) -> bool:
        """Whether the peer runs; the first time, whether it has started."""
        if self.process is None:
            return False
        if self.versions is None:
            answer = self.answer(START_SECONDS)
            if "error" in answer:
                self.state = answer["error"]
                self.end()
                return False
            self.versions = answer["versions"]
        return True

    def send(self, command: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer will say so

    def answer(self, timeout: float) -> dict[str, Any]:
        """The next line of the peer; an error where there is none in time."""
        process = self.process
        if process is None:
            return {"error": "not running"}
        assert process.stdout is not None
        end = time.monotonic() + max(0.0, timeout)
        number = process.stdout.fileno()
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([number], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.end()
                return {"error": f"no answer in {timeout:.0f} s"}
            read = os.read(number, 1 << 16)
            if not read:
                code = process.wait()
                self.end()
                return {"error": f"died with status {code}; the log may say why"}
            self.buffer += read
        line, _, self.buffer = self.buffer.partition(b"\n")
        return dict(json.loads(line))

    def ask(self, command: str, timeout: float) -> dict[str, Any]:
        self.send(command)
        return self.answer(timeout)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def available(name: str, device: str) -> bool:
    needed = PEERS[name][1]
    if name == "cupy" and device != "cuda":
        needed = "scipy"  # its code is checked with NumPy
    return importlib.util.find_spec(needed) is not None


class Bench:
    """A run: its peers, and the figures so far."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.deadline = time.monotonic() + options.seconds
        self.files = Files(folder, options.small)
        self.figures: dict[str, Any] = {"peers": {}, "rows": {}, "device": options.device, "small": options.small}
        self.peers: dict[str, Peer] = {}
        for name in options.peers.split(",") if options.peers else PEERS:
            if name not in PEERS:
                raise SystemExit(f"no such peer: {name}; there are {', '.join(PEERS)}")
            if not available(name, options.device):
                self.figures["peers"][name] = "not installed"
                continue
            cache = folder / name
            cache.mkdir()
            self.peers[name] = Peer(name, options, cache)
            self.peers[name].start()

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, rows: list[Row]) -> None:
        self.write()
        for row in rows:
            begin = time.monotonic()
            if self.left() < self.options.row_reserve:
                self.figures["rows"][row.name] = self.about(row) | {"skipped": "no time was left"}
            else:
                try:
                    self.figures["rows"][row.name] = self.measured(row)
                except Exception as error:  # a row that fails does not hide the others
                    text = f"{type(error).__name__}: {error}"
                    self.figures["rows"][row.name] = self.about(row) | {"skipped": text}
                    self.restart_all()
                self.files.forget(row)
            self.figures["rows"][row.name]["seconds"] = round(time.monotonic() - begin, 1)
            self.write()
            print(line(self.figures["rows"][row.name], row.name), flush=True)
        for peer in self.peers.values():
            peer.end()
        self.files.clear()

    def about(self, row: Row) -> dict[str, Any]:
        return {
            "title": row.title,
            "dtype": row.dtype,
            "bytes": row.bytes(self.options.small),
            "sets": row.sets,
            "host": row.host,
            "results": {},
        }

    def running(self) -> list[Peer]:
        """Peers that are up; one that died in an earlier row is started again, once a row."""
        for peer in self.peers.values():
            if peer.process is None and not peer.state:
                peer.start()
        up = [peer for peer in self.peers.values() if peer.ready()]
        for name, peer in self.peers.items():
            self.figures["peers"][name] = peer.versions or f"cannot be run: {peer.state}"
        return up

    def measured(self, row: Row) -> dict[str, Any]:
        """All figures of a row: a dict for each variant of each peer."""
        options = self.options
        files = self.files.prepare(row)
        record = self.about(row)
        results: dict[str, Any] = record["results"]
        peers = self.running()
        limit = min(options.row_seconds, self.left() - options.row_reserve / 2)
        description = json.dumps(files | {"seconds": limit})
        end = time.monotonic() + limit
        for peer in peers:
            peer.send(f"prepare {description}")
        for peer in peers:
            answer = peer.answer(end - time.monotonic())
            self.noted(peer, answer, results)
        for number in range(options.rounds):
            check = " check" if number == options.rounds - 1 else ""
            for peer in peers:
                wanted = [n for n, r in results.items() if r["peer"] == peer.name and "build" in r]
                if peer.process is None or not wanted:
                    continue
                answer = peer.ask(f"time {options.time}{check}", len(wanted) * (10 * options.time + 10))
                self.noted(peer, answer, results)
        for peer in peers:
            if peer.process is not None:
                self.noted(peer, peer.ask("drop", 30.0), results)
        for result in results.values():
            summarise(result)
        return record

    def noted(self, peer: Peer, answer: dict[str, Any], results: dict[str, Any]) -> None:
        """Put an answer where it belongs; a peer whose device no longer answers is ended."""
        mine = [name for name, result in results.items() if result["peer"] == peer.name]
        if "variants" in answer:
            for name, found in answer["variants"].items():
                result = results.setdefault(name, {"peer": peer.name})
                if "median" in found:
                    result.setdefault("rounds", []).append(found)
                    result["wrong"] = result.get("wrong") or found.get("wrong", {})
                else:
                    result.update(found)
        elif "error" in answer or "unsupported" in answer:
            for name in mine or [peer.name]:
                results.setdefault(name, {"peer": peer.name}).update(answer)
        states = [answer, *answer.get("variants", {}).values()]
        if any(state.get("broken") for state in states):
            peer.end()

    def restart_all(self) -> None:
        for peer in self.peers.values():
            peer.end()

    def write(self) -> None:
        part = self.options.out.with_suffix(".part")
        part.write_text(json.dumps(self.figures, indent=1))
        part.replace(self.options.out)


def summarise(result: dict[str, Any]) -> None:
    """The time of a variant: the better median of its rounds, and how far the rounds are apart."""
    rounds = result.get("rounds")
    if not rounds or "error" in result:
        return
    medians = [one["median"] for one in rounds]
    result["seconds"] = min(medians)
    result["minimum"] = min(one["minimum"] for one in rounds)
    result["spread"] = max(medians) / min(medians) - 1


def line(record: dict[str, Any], name: str) -> str:
    """A row in short, printed while the run goes on."""
    if "skipped" in record:
        return f"{name}: {record['skipped']}"
    parts = []
    for variant, result in record["results"].items():
        if result.get("wrong"):
            parts.append(f"{variant} WRONG {result['wrong']}")
        elif "seconds" in result:
            parts.append(f"{variant} {result['seconds'] * 1e6:.1f} us")
        else:
            parts.append(f"{variant}: {result.get('unsupported') or result.get('error')}")
    return f"{name} ({record['seconds']} s): " + "; ".join(parts)


def scratch() -> str | None:
    """Where inputs and references go: into memory, if there is much of it."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ENOUGH_MEMORY:
        return str(memory)
    return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure symtensor beside its peers on a GPU.")
    parser.add_argument("--out", type=Path, required=True, help="where the figures go, as JSON")
    parser.add_argument(
        "--device", choices=("cuda", "cpu", "shim"), default="cuda", help="cpu checks the programs only"
    )
    parser.add_argument("--small", action="store_true", help="small arrays")
    parser.add_argument("--quick", action="store_true", help="a handful of rows, fewer variants")
    parser.add_argument("--rows", default="", help="rows, by name or program")
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEERS)} (default: those that are installed)")
    parser.add_argument("--seconds", type=float, default=260, help="time for everything")
    parser.add_argument("--row-seconds", type=float, default=75, help="time for building one row")
    parser.add_argument("--row-reserve", type=float, default=12, help="no row is begun with less time left")
    parser.add_argument("--rounds", type=int, default=2, help="how often all variants of a row are timed")
    parser.add_argument("--time", type=float, default=0.2, help="seconds of timing for each variant and round")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    rows = selected([name for name in options.rows.split(",") if name], options.quick)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = scratch()
    with tempfile.TemporaryDirectory(prefix="symtensor-gpu-", dir=place, ignore_cleanup_errors=True) as folder:
        bench = Bench(options, Path(folder))
        try:
            bench.run(rows)
        finally:
            bench.restart_all()


if __name__ == "__main__":
    main()
