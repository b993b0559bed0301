"""``python -m benchmarks NAME``: runs one benchmark; its last line is one JSON object."""

import asyncio
import sys

from benchmarks import append, scale

BENCHMARKS = {"append": append.main, "scale": scale.main}


def main() -> int:
    match sys.argv[1:]:
        case [name] if name in BENCHMARKS:
            asyncio.run(BENCHMARKS[name]())
            return 0
        case _:
            print(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
