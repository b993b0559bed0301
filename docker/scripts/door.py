"""Door: how a script of this folder becomes a command of the product, on a Python that has its packages.

Plain standard library, for any Python 3: what a machine calls ``python3`` may be older than the product takes.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BARE = "{} lacks the gateway's packages: say `make venv` in {} once, or name a Python that has them in PYTHON."


def into(about: str, *command: str) -> None:
    """Become ``python -m COMMAND`` with the script's arguments, in the root of the clone. ``--help`` tells both."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{about}\nRuns: python -m {' '.join(command)}\n", flush=True)
    own = ROOT / ".venv" / "bin" / "python"
    python = os.environ.get("PYTHON") or (str(own) if own.exists() else sys.executable)
    if python != str(own) and subprocess.call([python, "-c", "import msgspec"], stderr=subprocess.DEVNULL):
        print(BARE.format(python, ROOT), file=sys.stderr)
        sys.exit(2)
    os.chdir(ROOT)
    os.execv(python, [python, "-m", *command, *sys.argv[1:]])
