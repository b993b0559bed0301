"""Makes a LocalService for tests: the image "echo" and directories that an unprivileged user can reach."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from docker.local import ECHO_COMMAND, LocalService

# Pytest's own directories are closed to others, so that as root every service falls back to this one.
FALLBACK = Path(tempfile.mkdtemp(prefix="session-gateway-local-"))
FALLBACK.chmod(0o711)
atexit.register(shutil.rmtree, FALLBACK, ignore_errors=True)


def local_service(
    state_dir: Path, images: Mapping[str, tuple[str, ...]] = {}, *, fallback: Path = FALLBACK
) -> LocalService:
    """A service that is not yet entered: ``async with local_service(tmp_path) as service``."""
    return LocalService(state_dir, {"echo": ECHO_COMMAND, **images}, fallback=fallback)
