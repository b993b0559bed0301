"""``python -m benchmarks NAME``: runs one benchmark; its last line is one JSON object."""

import asyncio
import importlib
import sys

# Imported when it is run: the peers of one are not installed for another.
BENCHMARKS = ("append", "scale", "fold", "search")
SMALLEST = 1_000


def main() -> int:
    match sys.argv[1:]:
        case [name] if name in BENCHMARKS:
            asyncio.run(importlib.import_module(f"benchmarks.{name}").main())
        case ["fold" | "search" as name, events] if events.isdecimal() and int(events) >= SMALLEST:
            asyncio.run(importlib.import_module(f"benchmarks.{name}").main(int(events)))
        case _:
            print(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)} [EVENTS, of fold and search]", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
