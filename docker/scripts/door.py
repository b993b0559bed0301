"""Door: how a script of this folder becomes a command of the product, on a Python that has its packages.

Plain standard library, for any Python 3: what a machine calls ``python3`` may be older than the product takes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BARE = "{} lacks the gateway's packages: say `make venv` in {} once, or name a Python that has them in PYTHON."
# Settings whose default is a folder of the clone; what the caller gives is of the caller's directory.
OF_THE_CLONE = {"DOCKER_CERT_PATH": "docker/certs", "GATEWAY_DATA_DIR": "var"}


def into(about: str, *command: str) -> None:
    """Become ``python -m COMMAND`` with the script's arguments, in the caller's directory. ``--help`` tells both."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{about}\nRuns: python -m {' '.join(command)}\n", flush=True)
    own = ROOT / ".venv" / "bin" / "python"
    python = os.environ.get("PYTHON") or (str(own) if own.exists() else sys.executable)
    wanted = [python, "-c", "import cryptography, msgspec"]
    if python != str(own) and (not shutil.which(python) or subprocess.call(wanted, stderr=subprocess.DEVNULL)):
        print(BARE.format(python, ROOT), file=sys.stderr)
        sys.exit(2)
    if Path.cwd() != ROOT:
        given = {name: value for name, value in os.environ.items() if value}
        os.environ.update({name: given.get(name, str(ROOT / path)) for name, path in OF_THE_CLONE.items()})
    # Nothing of the caller's directory is taken for a module of ours.
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ.update(PYTHONPATH=path, PYTHONSAFEPATH="1")
    os.execvp(python, [python, "-m", *command, *sys.argv[1:]])


if __name__ == "__main__":
    into("Makes, renews and replaces the certificate files of mutual TLS.", sys.argv.pop(1))
