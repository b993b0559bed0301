"""Keeps a release to test against: ``git archive`` of what runs, as ``tests/releases/X.Y.Z.zip``.

    python -m tools.release_archive [COMMIT]

The number is the commit's own, from its sql/release.toml. An archive that is there is never written again.
"""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CONTENT: Final = ("docker", "events", "gateway", "hypercorn.toml", "projections", "sql")


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Exit code 0: the archive is made. 1: there is one of this release already."""
    commit = arguments[0] if arguments else "HEAD"
    number = tomllib.loads(_git(root, "show", f"{commit}:sql/release.toml"))["release"]
    archive = root / "tests" / "releases" / f"{number}.zip"
    if archive.exists():
        print(f"{archive.relative_to(root)} is there already: a release is made once.", file=sys.stderr)
        return 1
    _git(root, "archive", "--format=zip", "-9", "-o", str(archive), commit, *CONTENT)
    print(f"Made {archive.relative_to(root)}. Now give the product its next number (tests/releases/README.md).")
    return 0


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
