"""Tables about the compiler: ``python -m symtensor ops|rules|passes|config|cache``.

``--markdown`` prints them for documentation; ``cache --clear`` empties the kernel cache.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Column titles and rows of text."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


def ops_table() -> Table:
    """Every operation: what it is, whether it has a gradient, and how it is computed."""
    from . import ops  # fills the table  # noqa: F401
    from .opdef import OPS, OpDef

    def how(op: OpDef) -> str:
        ways = ("one element" if op.is_elementwise else "value at an index") if op.pull is not None else ""
        return ", ".join(filter(None, [ways, "loops" if op.loops is not None else "", op.library or ""]))

    rows = [
        (op.name, op.category, "yes" if op.gradient is not None else "no", how(op), op.doc)
        for op in sorted(OPS.values(), key=lambda op: (op.category, op.name))
        if op.category != "leaf"
    ]
    return Table(("operation", "kind", "gradient", "computed as", "meaning"), rows)


def rules_table() -> Table:
    """Every rewrite rule, in the order of the passes."""
    from . import rules

    return Table(("set", "rule", "before", "after", "where"), [tuple(row) for row in rules.rules_table()])


def passes_table() -> Table:
    """The passes over the graph, in order."""
    from . import pipeline

    passes = (*pipeline.STRUCTURE, *pipeline.GRAPH_PASSES, pipeline.FAST_MATH)
    return Table(("pass", "why"), [(step.name, step.why) for step in passes])


def config_table() -> Table:
    """The settings: current value, default, what they take and mean."""
    from .settings import SETTINGS, config

    rows = [
        (
            name,
            str(getattr(config, name)),
            str(one.default),
            ", ".join(map(str, one.choices)) or "text",
            one.doc,
        )
        for name, one in SETTINGS.items()
    ]
    return Table(("setting", "value", "default", "takes", "meaning"), rows)


def cache_table() -> Table:
    """The kernel cache on disk."""
    from symtensor_codegen import cache

    state = cache.info()
    rows = [
        ("folder", state.directory or "none: kernels are kept in memory only"),
        ("kernels", str(state.disk_entries)),
        ("size", f"{state.disk_bytes / 1e6:.1f} MB of at most {state.disk_limit / 1e6:.0f} MB"),
    ]
    return Table(("kernel cache", ""), rows)


TABLES: dict[str, Callable[[], Table]] = {
    "ops": ops_table,
    "rules": rules_table,
    "passes": passes_table,
    "config": config_table,
    "cache": cache_table,
}


def as_text(table: Table) -> str:
    """Columns aligned with spaces."""
    widths = [max(len(row[k]) for row in (table.titles, *table.rows)) for k in range(len(table.titles))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (table.titles, *table.rows)
    ]
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """A Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(table.titles), line(["---"] * len(table.titles)), *map(line, table.rows)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m symtensor", description="Tables about the compiler.")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--clear", action="store_true", help="with cache: remove every kernel first")
    chosen = parser.parse_args(arguments)
    if chosen.clear:
        if chosen.table != "cache":
            parser.error("--clear goes with cache")
        from symtensor_codegen import cache

        print(f"removed {cache.clear()} files")
    table = TABLES[chosen.table]()
    print(as_markdown(table) if chosen.markdown else as_text(table))


if __name__ == "__main__":
    main()
