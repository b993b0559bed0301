"""``python -m benchmarks NAME``: runs one benchmark; its last line is one JSON object."""

import asyncio
import importlib
import sys

# Imported when it is run: the peers of one are not installed for another.
BENCHMARKS = ("append", "scale", "fold")
SMALLEST = 1_000


def main() -> int:
    match sys.argv[1:]:
        case [name] if name in BENCHMARKS:
            asyncio.run(importlib.import_module(f"benchmarks.{name}").main())
        case ["fold", events] if events.isdecimal() and int(events) >= SMALLEST:
            asyncio.run(importlib.import_module("benchmarks.fold").main(int(events)))
        case _:
            print(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)} [EVENTS, of fold]", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
