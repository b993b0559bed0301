"""Stops and removes what ``make`` made in this directory. Run by the environment's Python, before that goes too.

Part of it lies outside (as root, Postgres and local sessions are kept under /var/lib), so the gateway's own ``clean``
does it; it refuses while a gateway uses the directory, and then nothing else is removed either.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "var"


def main() -> int:
    """The exit code. A data directory of the operator's own keeps the files that are not ours."""
    chosen = Path(os.environ.get("GATEWAY_DATA_DIR") or DATA)
    for directory in {chosen.resolve(), DATA}:
        environment = {**os.environ, "GATEWAY_DATA_DIR": str(directory)}
        if subprocess.run([sys.executable, "-m", "gateway", "clean", "--yes"], cwd=ROOT, env=environment).returncode:
            return 1
    if not DATA.exists():
        return 0
    if (DATA / "secrets").exists():
        # Their log is in a database elsewhere: without them its sealed fields could never be read again.
        print(f"{DATA} stays, with the secrets of a log that is elsewhere; remove it yourself when that log has gone.")
        return 0
    shutil.rmtree(DATA)
    return 0


if __name__ == "__main__":
    sys.exit(main())
