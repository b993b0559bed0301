"""Makes ``.venv`` and installs locked packages into it: ``tools/python.sh tools/venv.py LOCK...``.

Standard library only, since it runs before anything is installed. What is done already is not done again: a stamp in
the environment holds the hash of each lock that was installed (50 ms instead of a pip run). An environment made with
one Python is kept until another is asked for by name (``PYTHON=python3.13 make run``).
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
INTERPRETER = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
LOG = VENV / "pip.log"
# How pip says that it begins with a package: from an index, from a folder of wheels, or not at all.
_PACKAGE = re.compile(r"(?:Collecting |Processing \S*/|Requirement already satisfied: )([\w.-]+?)(?=[=\[ ]|-\d|$)")


class SetupFailed(Exception):
    """The environment cannot be made. The message says what to do."""


def main(locks: list[str]) -> int:
    """Bring ``.venv`` to the state that the locks describe; the exit code."""
    here = os.open(ROOT, os.O_RDONLY)  # the directory itself is the lock: two makes at once take turns
    try:
        _take(here)
        if not usable():
            make()
        for lock in locks:
            install(lock)
    except SetupFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next start goes on from here.", file=sys.stderr)
        return 130
    finally:
        os.close(here)
    return 0


def usable() -> bool:
    """Whether ``.venv`` works and was made with the Python that was asked for, if one was."""
    if os.environ.get("PYTHON") and _base_of(VENV) != _base_here():
        return False
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([INTERPRETER, "-c", probe], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def make() -> None:
    """Make ``.venv`` anew with the Python that runs this."""
    base = _base_here()
    version = ".".join(str(part) for part in sys.version_info[:3])
    print(f"Making .venv with Python {version} ({base}).", flush=True)
    made = subprocess.run([base, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
    if made.returncode == 0:
        return
    said = (made.stdout + made.stderr).strip()
    if "ensurepip" in said:
        raise SetupFailed(
            f"{base} cannot make virtual environments: its venv or ensurepip module is not installed.\n"
            "On Debian and Ubuntu: apt-get install python3-venv, then run this again."
        )
    raise SetupFailed(f"Making .venv failed:\n{said}")


def install(lock: str) -> None:
    """Install exactly what ``lock`` pins, unless the stamp says that this was done."""
    content = (ROOT / lock).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    stamp = _stamp()
    if stamp.get(lock) == digest:
        return
    total = sum(b"==" in line for line in content.splitlines() if line[:1].isalnum())
    print(f"Installing the {total} packages of {lock}; the first time takes a minute or two.", flush=True)
    _pip(["install", "--require-hashes", "-r", lock], total)
    STAMP.with_suffix(".new").write_text(json.dumps(stamp | {lock: digest}, indent=1))
    os.replace(STAMP.with_suffix(".new"), STAMP)


def _pip(arguments: list[str], total: int) -> None:
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command = [str(INTERPRETER), "-m", "pip", *arguments, *quiet]
    with (
        LOG.open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip,
    ):
        assert pip.stdout is not None
        progress = Progress(total)
        for line in pip.stdout:
            log.write(line)
            progress.show(line)
    progress.end()
    if pip.returncode:
        tail = "".join(LOG.read_text().splitlines(keepends=True)[-15:])
        raise SetupFailed(f"{tail}\npip could not install the packages (all of its output: {LOG.relative_to(ROOT)}).")


class Progress:
    """What pip is doing: one line that changes on a terminal, one line in ten packages elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0
        self._terminal = sys.stdout.isatty()

    def show(self, line: str) -> None:
        """Count a package that pip begins with; tell of the last, long step."""
        begun = _PACKAGE.match(line)
        if begun:
            self._seen += 1
            self._say(f"  {self._seen}/{self._total} {begun[1]}", always=self._seen % 10 == 0)
        elif line.startswith("Installing collected packages"):
            self._say("  unpacking them", always=True)

    def end(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", flush=True)

    def _say(self, text: str, *, always: bool) -> None:
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif always:
            print(text, flush=True)


def _take(here: int) -> None:
    try:
        fcntl.flock(here, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting for another make that is setting up .venv.", flush=True)
        fcntl.flock(here, fcntl.LOCK_EX)


def _stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _base_here() -> str:
    """The interpreter behind the one that runs this, which may itself be in a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _base_of(venv: Path) -> str:
    """The interpreter that ``venv`` was made with; empty when there is no such environment."""
    try:
        settings = (venv / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return ""
    return next(
        (value.strip() for key, _, value in (line.partition("=") for line in settings) if key == "executable "), ""
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
