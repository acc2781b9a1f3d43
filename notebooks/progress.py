"""What the programs of this folder show while they run: a bar, and on demand a picture."""

from __future__ import annotations

import argparse
import sys

WIDTH = 30  # characters


def show_progress(step: int, steps: int, note: str, label: str = "training") -> None:
    """Draw the bar: in place on a terminal, else one line for every tenth of the way."""
    done = step * WIDTH // steps
    line = f"{label:10s} [{'#' * done}{'.' * (WIDTH - done)}] {step:5d}/{steps}   {note}"
    if sys.stdout.isatty():
        print("\r" + line, end="\n" if step == steps else "", flush=True)
    elif step == 1 or step % max(steps // 10, 1) == 0:
        print(line, flush=True)


def picture_file(description: str | None) -> str | None:
    """Read the command line: the file of ``--picture FILE``, if one is wanted (it takes Matplotlib)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="FILE", help="draw the result into this file (.png, .svg, .pdf)")
    file: str | None = parser.parse_args().picture
    return file
