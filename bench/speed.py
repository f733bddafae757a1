"""How fast Vigie is, with what a user would pick instead beside it.

``python bench/speed.py`` measures everything and fills docs/benchmarks/speed.md; ``--quick`` takes
less than two minutes, prints one line a figure and writes nothing; ``--only PART`` measures one
part.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import figures

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/benchmarks/speed.md"
KEPT = Path(".vigie") / "speed.json"
PARTS = ("kernels", "fitting", "lstm", "calibrating", "serving", "files", "tables", "tracking",
         "startup", "growth", "shadow", "fleets")  # fmt: skip
"""Modules of this folder, each with ``measure(quick)``, which yields figures."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and fill the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts instead of all")
    parser.add_argument("--quick", action="store_true", help="fewer runs, shown and not written")
    given = parser.parse_args(arguments)
    logging.getLogger("vigie").setLevel(logging.ERROR)
    text = DOCUMENT.read_text(encoding="utf-8")
    for part in given.only or PARTS:
        found = []
        for figure in importlib.import_module(part).measure(given.quick):
            found.append(figure)
            print(figure, flush=True)
        if found and not given.quick:
            figures.keep(KEPT, part, found)
            block = f"{figures.as_table(found)}\n\nMeasured on {figures.machine()}."
            text = figures.filled(text, f"speed {part}", block)
            DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
