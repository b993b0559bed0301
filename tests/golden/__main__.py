"""Adds the golden files that are missing; one that is there is never written again."""

import sys

from tests.golden import files, states


def main() -> int:
    """Exit code 0: what was missing is written, or nothing was."""
    missing = files.missing() | states.missing()
    for path, body in missing.items():
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as new:
            new.write(body)
        print(f"written: {path.relative_to(files.FOLDER)}")
    if not missing:
        print("nothing is missing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
