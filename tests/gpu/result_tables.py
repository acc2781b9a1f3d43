"""The figures of a run as tables in Markdown: targets, times, rooflines, compilation, tests, failures."""

from typing import Any

from rows import ROWS, Row, Target

BY_NAME = {row.name: row for row in ROWS}


def duration(seconds: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [f"### {title}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *["| " + " | ".join(cells) + " |" for cells in rows]]) + "\n"


def usable(result: dict[str, Any]) -> bool:
    return "seconds" in result and not result.get("wrong") and "error" not in result


def cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    if result.get("wrong"):
        return "WRONG"
    if "unsupported" in result:
        return "n/a"
    if not usable(result):
        return "FAILED"
    return duration(result["seconds"]) + ("~" if result["spread"] > 0.1 else "")


def verdict(reached: bool) -> str:
    return "yes" if reached else "**no**"


def only_dry(cells: list[str]) -> list[str]:
    """Without a verdict: nothing was reached that was not measured."""
    return [*cells[:-1], "dry run"]


def judged(row: Row, target: Target, record: dict[str, Any], copy: float | None) -> list[str]:
    """The cells of a target: what is asked, symtensor, against what, the figure, the bound, whether it is reached."""
    results = record["results"]
    mine = results.get("symtensor")
    if mine is None:
        return ["not measured", "", "", "", "?"]
    if not usable(mine):
        return [cell(mine), "", "", "", verdict(False)]
    seconds = mine["seconds"]
    if target.seconds is not None:
        return [duration(seconds), "", "", duration(target.seconds), verdict(seconds <= target.seconds)]
    if target.copy is not None:
        if not copy or not record["bytes"]:
            return [duration(seconds), "copy: not measured", "", f">= {target.copy:.2f}", "?"]
        share = record["bytes"] / seconds / copy
        return [
            duration(seconds), f"copy {copy / 1e9:.0f} GB/s", f"{share:.3f}", f">= {target.copy:.2f}",
            verdict(share >= target.copy),
        ]  # fmt: skip
    others = {name: results[name]["seconds"] for name in target.peers if name in results and usable(results[name])}
    if not others or target.ratio is None:
        return [duration(seconds), "no peer", "", f"<= {target.ratio}", "?"]
    best = min(others, key=others.__getitem__)
    ratio = seconds / others[best]
    failed = [name for name in target.peers if cell(results.get(name)) == "FAILED"]
    reached = ratio <= target.ratio
    return [
        duration(seconds), f"{best} {duration(others[best])}", f"{ratio:.2f}", f"<= {target.ratio:.2f}",
        f"? ({', '.join(failed)}: failed)" if reached and failed else verdict(reached),
    ]  # fmt: skip


def targets(run: dict[str, Any]) -> str:
    copy = run.get("facts", {}).get("copy")
    rows = []
    for name, record in run.get("bench", {}).get("rows", {}).items():
        row = BY_NAME[name]
        for target in row.targets:
            rows.append([name, row.title, *judged(row, target, record, copy)])
    for name, one in run.get("compile", {}).get("summary", {}).items():
        if isinstance(one, dict):
            text = f"{duration(one['worst'])} (median {duration(one['median'])})"
            rows.append([f"compile, {name}", "the slowest kernel", text, "", f"{one['above']} above",
                         duration(one["limit"]), verdict(not one["above"])])  # fmt: skip
    if run["dry"]:
        rows = [only_dry(cells) for cells in rows]
    heads = ["row", "what", "symtensor", "against", "figure", "asked", "reached"]
    return table("What must be reached", heads, rows)


def times(run: dict[str, Any]) -> str:
    records = run.get("bench", {}).get("rows", {})
    variants = list(dict.fromkeys(name for record in records.values() for name in record["results"]))
    rows = []
    for name, record in records.items():
        if "skipped" in record:
            rows.append([name, f"not measured: {record['skipped']}", *[""] * (len(variants) - 1)])
        else:
            rows.append([name, *[cell(record["results"].get(variant)) for variant in variants]])
    return table("Seconds for a call: the better median of two rounds (~: they are over 10 % apart)",
                 ["row", *variants], rows)  # fmt: skip


def rooflines(run: dict[str, Any]) -> str:
    copy = run.get("facts", {}).get("copy")
    rows = []
    for name, record in run.get("bench", {}).get("rows", {}).items():
        if not record["bytes"]:
            continue
        figures = {n: record["bytes"] / r["seconds"] for n, r in record["results"].items() if usable(r)}
        if not figures:
            continue
        shown = {n: f"{v / 1e9:.0f}" + (f" ({v / copy:.2f})" if copy else "") for n, v in figures.items()}
        others = [n for n in figures if n != "symtensor"]
        best = max(others, key=figures.__getitem__, default="")
        rows.append([
            name, f"{record['bytes'] / 1e6:.0f} MB", shown.get("symtensor", ""),
            f"{best} {shown[best]}" if best else "",
        ])  # fmt: skip
    heads = ["row", "bytes", "symtensor, GB/s (share of copy)", "best peer, GB/s (share of copy)"]
    return table("Memory traffic", heads, rows)


def compilation(run: dict[str, Any]) -> str:
    figures = run.get("compile", {})
    rows = []
    for name, cold in figures.get("cold", {}).items():
        again = figures.get("cached", {}).get(name, {})
        kernels = figures.get("each", {}).get(name, {}).get("kernels", [])
        if "error" in cold:
            rows.append([name, "FAILED", "", "", "", ""])
            continue
        slowest = [duration(max((k[key] for k in kernels), default=0.0)) for key in ("cold", "cached")]
        rows.append([
            name, duration(cold["function"]), duration(again["function"]) if "function" in again else "",
            duration(cold["first call"]), str(len(kernels)), " / ".join(slowest) if kernels else "",
        ])  # fmt: skip
    heads = ["row", "function(), cold", "function(), cached", "first call, cold", "kernels", "slowest: cold / cached"]
    return table("Compilation", heads, rows)


def tests(run: dict[str, Any]) -> str:
    rows = []
    for name in ("suite", "programs"):
        if counts := run.get(name, {}).get("counts"):
            text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
            rows.append([name, text, run["parts"].get(name, {}).get("status", "")])
    return table("Tests on the device", ["part", "outcomes", "part ended"], rows)


def failures(run: dict[str, Any]) -> str:
    lines = [
        f"- part {name}: {part['status']}" for name, part in run["parts"].items()
        if part["status"] not in ("ok", "left out", "waiting")
    ]  # fmt: skip
    peers = run.get("bench", {}).get("peers", {})
    lines += [f"- peer {name}: {said}" for name, said in peers.items() if isinstance(said, str)]
    for name, record in run.get("bench", {}).get("rows", {}).items():
        for variant, result in record["results"].items():
            if result.get("wrong"):
                lines.append(f"- {name}, {variant}: wrong {result['wrong']}")
            elif "error" in result:
                lines.append(f"- {name}, {variant}: {result['error'].splitlines()[0]}")
    lines += [f"- compile, stage {said}" for said in run.get("compile", {}).get("failures", [])]
    for part in ("cold", "cached", "each"):
        for name, one in run.get("compile", {}).get(part, {}).items():
            if "error" in one:
                lines.append(f"- compile {name} ({part}): {one['error'].splitlines()[0]}")
    for name in ("suite", "programs"):
        for test in run.get(name, {}).get("failed", [])[:40]:
            message = test.get("message", "").split("\n")[0]
            lines.append(f"- {test['test']}: {message}")
    return "### Failures\n\n" + "\n".join(lines) + "\n" if lines else ""


def heading(run: dict[str, Any]) -> str:
    facts = run.get("facts", {})
    device = facts.get("device") or "no device"
    packages = ", ".join(f"{k} {v}" for k, v in facts.get("packages", {}).items())
    copy = f"; copies move {facts['copy'] / 1e9:.0f} GB/s, read and written" if "copy" in facts else ""
    driver = facts.get("nvidia-smi", {}).get("driver_version", "")
    text = f"{run['date']}: {device}{f', driver {driver}' if driver else ''}{copy}. "
    text += f"Python {facts.get('python')}, {packages}.\n"
    if run["dry"]:
        text += "\n**A dry run: small arrays, no device. None of these figures says anything about a GPU.**\n"
    return text


def markdown(run: dict[str, Any]) -> str:
    """All tables."""
    made = [heading(run), targets(run), times(run), rooflines(run), compilation(run), tests(run), failures(run)]
    return "\n".join(part for part in made if part)
