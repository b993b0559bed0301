"""``python -m benchmarks NAME``: runs one benchmark; its last line is one JSON object. Exit code 1: a bar is missed.

Bars are for a run of the whole size; one of EVENTS shows figures and is not judged.
"""

import asyncio
import importlib
import json
import sys
from typing import Any

from benchmarks.bars import missed

# Imported when it is run: the peers of one are not installed for another.
BENCHMARKS = ("append", "scale", "fold", "search")
SMALLEST = 1_000


def main() -> int:
    match sys.argv[1:]:
        case [name] if name in BENCHMARKS:
            module = importlib.import_module(f"benchmarks.{name}")
            return told(asyncio.run(module.main()), module.BARS)
        case ["fold" | "search" as name, events] if events.isdecimal() and int(events) >= SMALLEST:
            return told(asyncio.run(importlib.import_module(f"benchmarks.{name}").main(int(events))), {})
        case _:
            print(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)} [EVENTS, of fold and search]", file=sys.stderr)
            return 2


def told(figures: dict[str, Any], bars: dict[str, str]) -> int:
    """Print the bars that were missed, then the figures; the exit code."""
    short = missed(figures, bars)
    for sentence in short:
        print(f"missed: {sentence}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
