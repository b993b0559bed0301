"""Stops and removes what ``make`` made in this directory. Run by the environment's Python, before that goes too.

The embedded Postgres may lie outside (for root: under /var/lib), so it is asked to remove itself; it refuses while a
gateway uses it, and then nothing else is removed either.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from events import embedded

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "var"


def main() -> int:
    """The exit code. A data directory of the operator's own loses its Postgres; its other files are not ours."""
    chosen = Path(os.environ.get("GATEWAY_DATA_DIR") or DATA)
    for directory in {chosen.resolve(), DATA}:
        try:
            asyncio.run(embedded.remove(directory))
        except embedded.EmbeddedPostgresFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    if DATA.exists():
        shutil.rmtree(DATA)
    return 0


if __name__ == "__main__":
    sys.exit(main())
