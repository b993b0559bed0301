"""Makes a LocalService for tests: the image "echo" and directories that an unprivileged user can reach."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from docker.local import ECHO_COMMAND, LocalService


@functools.cache
def fallback() -> Path:
    """Pytest's own directories are closed to others, so that as root every service falls back to this one."""
    directory = Path(tempfile.mkdtemp(prefix="session-gateway-local-"))
    directory.chmod(0o711)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def local_service(
    state_dir: Path, images: Mapping[str, tuple[str, ...]] = {}, *, elsewhere: Path | None = None
) -> LocalService:
    """A service that is not yet entered: ``async with local_service(tmp_path) as service``."""
    return LocalService(state_dir, {"echo": ECHO_COMMAND, **images}, fallback=elsewhere or fallback())
