"""Figures as tables: calls, compilation, memory, imports, and what symtensor must reach."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads import WORKLOADS, Target, Workload

IMPORT_ALLOWANCE = 0.06  # seconds that importing symtensor may cost beyond NumPy and llvmlite


def duration(seconds: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def machine() -> str:
    """The processor and the number of CPUs that may be used."""
    import os

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {count} CPUs, Python {platform.python_version()}"


def failed(result: dict[str, Any]) -> str:
    """Why there is no figure, in short; empty if there is one."""
    if "unsupported" in result:
        return "n/a"
    if "error" in result:
        return "FAILED"
    return ""


def line(row: Workload, threads: int, results: dict[str, Any]) -> str:
    """One workload as plain lines, printed while a run goes on."""
    lines = [f"{row.name}: {row.title}, {row.dtype}, {threads} thread{'s' if threads > 1 else ''}"]
    for name, r in results.items():
        if failed(r):
            lines.append(f"  {name:15} {r.get('unsupported') or r.get('error')}")
            continue
        call = f"{duration(r['min']):>8} (median {duration(r['median'])}){'~' if r['noisy'] else ''}"
        warm = f" warm {duration(r['warm']):>8}" if "warm" in r else ""
        wrong = f"  WRONG {r['wrong']}" if r["wrong"] else ""
        lines.append(
            f"  {name:15} call {call}  compile {duration(r['cold']):>8}{warm}"
            f"  memory {r['compiled_memory'] >> 20} MB{wrong}"
        )
    return "\n".join(lines)


def table(title: str, figures: dict[str, Any], threads: str, cell: Callable[[dict[str, Any]], str]) -> str:
    """One row per workload, one column per peer."""
    rows = {name: by[threads] for name, by in figures["rows"].items() if threads in by}
    peers = list(dict.fromkeys(p for results in rows.values() for p in results))
    if not rows:
        return ""
    lines = [f"### {title}", "", "| workload | " + " | ".join(peers) + " |", "|---" * (len(peers) + 1) + "|"]
    for name, results in rows.items():
        cells = [(failed(results[p]) or cell(results[p])) if p in results else "" for p in peers]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _call(r: dict[str, Any]) -> str:
    return f"{duration(r['min'])}{'~' if r['noisy'] else ''}{' WRONG' if r['wrong'] else ''}"


def _compile(r: dict[str, Any]) -> str:
    return duration(r["cold"]) + (f" [{duration(r['warm'])}]" if "warm" in r else "")


def _memory(r: dict[str, Any]) -> str:
    return f"{r['compiled_memory'] >> 20} (+{max(0, r['compiled_memory'] - r['base_memory']) >> 20})"


FIGURES = {"call": "min", "compile": "cold", "warm": "warm", "memory": "compiled_memory"}


def reached(row: Workload, target: Target, threads: int, results: dict[str, Any]) -> list[str] | None:
    """Cells of the table of targets, or None where symtensor or the peer was not measured."""
    key = FIGURES[target.figure]
    good = {n: r[key] for n, r in results.items() if not failed(r) and not r["wrong"] and key in r}
    if "symtensor" not in good:
        return [target.figure, "no figure", "", "", "", "**no**"] if "symtensor" in results else None
    mine = good.pop("symtensor")
    show: Callable[[float], str] = (lambda v: f"{int(v) >> 20} MB") if target.figure == "memory" else duration
    if target.value is not None:
        verdict = "yes" if mine <= target.value else "**no**"
        return [target.figure, show(mine), "", "", show(target.value), verdict]
    peer = min(good, key=good.__getitem__, default=None) if target.peer == "best" else target.peer
    if peer is None or peer not in good or target.ratio is None:
        return None
    ratio = mine / good[peer]
    return [
        target.figure, show(mine), f"{peer} {show(good[peer])}", f"{ratio:.2f}", f"{target.ratio:.2f}",
        "yes" if ratio <= target.ratio else "**no**",
    ]  # fmt: skip


def targets(figures: dict[str, Any]) -> str:
    lines = [
        "### What must be reached", "",
        "| workload | threads | figure | symtensor | against | ratio | at most | reached |", "|---" * 8 + "|",
    ]  # fmt: skip
    for name, by in figures["rows"].items():
        row = WORKLOADS[name]
        for threads, results in by.items():
            for target in row.targets:
                if int(threads) in target.threads and (cells := reached(row, target, int(threads), results)):
                    lines.append(f"| {name} | {threads} | " + " | ".join(cells) + " |")
    cost = figures["imports"]
    if "symtensor" in cost:
        mine, floor = cost["symtensor"]["min"], cost["numpy + llvmlite"]["min"]
        verdict = "yes" if mine - floor <= IMPORT_ALLOWANCE else "**no**"
        cells = [duration(mine), f"numpy + llvmlite {duration(floor)}", f"+{duration(max(mine - floor, 0))}"]
        lines.append(f"| W12 | 1 | import | {' | '.join(cells)} | +{duration(IMPORT_ALLOWANCE)} | {verdict} |")
    return "\n".join(lines) + "\n"


def tables(figures: dict[str, Any]) -> str:
    """All tables as Markdown."""
    versions: dict[str, str] = {}
    counts = sorted({t for by in figures["rows"].values() for t in by}, key=int)
    for by in figures["rows"].values():
        for results in by.values():
            for r in results.values():
                versions |= r.get("versions", {})
    parts = [
        f"Measured {figures['date']} on {figures['machine']}; "
        + ", ".join(f"{k} {v}" for k, v in versions.items() if k != "mode")
        + ".\n",
        targets(figures),
    ]
    for threads in counts:
        parts.append(
            table(f"A call, {threads} thread{'s' if threads != '1' else ''}: minimum", figures, threads, _call)
        )
    parts.append(table("Compilation: cold [from a filled cache, in a new process]", figures, "1", _compile))
    parts.append(table("Peak memory after compiling, MB (growth since inputs were loaded)", figures, "1", _memory))
    if figures["imports"]:
        lines = ["### W12: import", "", "| import | minimum | median | peak memory |", "|---|---|---|---|"]
        for name, r in figures["imports"].items():
            cells = [duration(r["min"]), duration(r["median"]), f"{int(r['memory']) >> 20} MB"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines) + "\n")
    failures = [
        f"- {name}, {threads} thread(s), {peer}: {r.get('error') or 'wrong result ' + str(r.get('wrong'))}"
        for name, by in figures["rows"].items()
        for threads, results in by.items()
        for peer, r in results.items()
        if "error" in r or r.get("wrong")
    ]
    if failures:
        parts.append("### Failures\n\n" + "\n".join(failures) + "\n")
    return "\n".join(p for p in parts if p)
