"""Folders: which folder of the host is a session's workspace, and whether one can be.

``docker/host_dirs`` makes and checks a folder here; this module has the runtime show that it sees the same file system,
each time that one is taken (but for some seconds): a daemon can have another address, or another machine, than the last
time. Two names are compared by ``mac``; the name itself is sealed, since frontends put a person's into it.
"""

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from docker import host_dirs, names
from docker.errors import DockerError, HostDirRefused, HostDirRootUnfit, ImageMissing
from docker.host_dirs import Folder
from docker.service import Capability, DockerService, HostDir
from docker.settings import DockerSettings
from events.envelope import session_stream
from events.errors import UnreadableEvent
from events.keyring import Keyring
from events.sealing import Place, unseal
from gateway.sessions.commands import OpenSession
from gateway.sessions.decide import whose
from projections.session_state import SessionState

SEEN_AT: Final = "/workspace"
REQUESTED: Final = "session.requested"
FIELD: Final = "host_dir"
PROOF_SECONDS: Final = 5.0  # from the asking to the boot; a flood of requests is one container in that time
OFF: Final = "This gateway gives sessions no folder of its host as a workspace: HOST_DIR_ROOT is not set."


class Folders:
    """The folders of one host. ``secret``: the log's sealing secret, without which no folder's name can be read."""

    def __init__(
        self,
        docker: DockerService,
        keyring: Keyring,
        settings: DockerSettings,
        secret: bytes,
        *,
        image: str,
        owner: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._docker, self._keyring = docker, keyring
        self._root, self._user = settings.host_dir_root, settings.container_user
        self._key = hmac.digest(secret, b"session-gateway/host-dir", hashlib.sha256)
        self._image, self._owner, self._clock = image, owner, clock
        self._proven: float | None = None  # when what was seen was asked for
        self._proving: asyncio.Task[None] | None = None

    @property
    def offered(self) -> bool:
        return bool(self._root)

    def mac(self, name: str) -> str:
        """The same for the same name on every gateway of the log, and nothing to whoever has no secret of it."""
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    async def prove(self) -> None:
        """That a container would see what we see beneath the root. Nothing is started; one proof at a time, for all.

        Raises HostDirRefused with what to do, DockerError when the runtime cannot be asked.
        """
        if not self.offered:
            raise HostDirRefused(OFF)
        if Capability.HOST_DIRS not in self._docker.capabilities:
            raise HostDirRefused(f"Sessions that run as {self._docker.runtime} have no folder of the host.")
        if self._proven is not None and self._clock() - self._proven < PROOF_SECONDS:
            return
        if self._proving is None:
            self._proving = asyncio.create_task(self._show(), name="host_dir proof")
            self._proving.add_done_callback(self._shown)
        await asyncio.shield(self._proving)  # who leaves, leaves no container half made, and the others their proof

    async def aclose(self) -> None:
        """Wait for a proof under way, which leaves nothing behind."""
        if self._proving is not None:
            await asyncio.wait([self._proving])

    def _shown(self, task: asyncio.Task[None]) -> None:
        self._proving = None
        if not task.cancelled():
            task.exception()  # told to those who wait, if any do still

    async def _show(self) -> None:
        began = self._clock()
        self._proven = None
        async with self._probe() as path:
            name = names.container_name()
            try:
                await self._docker.create_container(
                    name,
                    self._image,
                    labels=names.labels(self._owner, "", name),  # killed here, reconciliation removes it
                    volumes=(HostDir(path, SEEN_AT),),
                )
            except ImageMissing as error:
                raise HostDirRootUnfit(f"That the daemon sees HOST_DIR_ROOT cannot be shown: {error}") from error
            finally:
                with contextlib.suppress(DockerError):
                    await self._docker.remove_container(name, force=True)
        self._proven = began

    def mark(self, session: SessionState | OpenSession) -> str:
        """Whose a session's folder is, for the file beside it: of which log, and there of whom."""
        mac = hmac.new(self._key, "\n".join(("owner", *map(str, whose(session)))).encode(), hashlib.sha256)
        return f"{self._owner} {mac.hexdigest()}"

    async def check(self, name: str, session: SessionState | OpenSession) -> None:
        """Whether a session could have the folder of that name; nothing is made. Raises as ``prove``."""
        await self.prove()
        await asyncio.to_thread(host_dirs.check, self._root, name, self._user, self.mark(session))

    async def take(self, name: str, session: SessionState | OpenSession) -> Folder:
        """The folder of that name, made when absent, shown to be seen by the runtime. Raises as ``prove``."""
        await self.prove()
        return await asyncio.to_thread(host_dirs.prepare, self._root, name, self._user, self.mark(session))

    async def name_of(self, state: SessionState) -> str | None:
        """The name of a session's folder; None when it has none. Raises StoreUnavailable, HostDirRefused."""
        if state.host_dir is None:
            return None
        key = (await self._keyring.keys([state.host_dir.k])).get(state.host_dir.k)
        if key is None:
            raise HostDirRefused("Which folder was the workspace was erased with the session's owner.")
        try:
            return unseal(key, state.host_dir, Place(session_stream(state.session_id), REQUESTED, FIELD))
        except UnreadableEvent as error:
            raise HostDirRefused("The name of the session's folder cannot be read: its event is damaged.") from error

    async def of(self, state: SessionState) -> Folder | None:
        """The folder that is a session's workspace, taken; None when a volume is. Raises as the two before."""
        name = await self.name_of(state)
        return None if name is None else await self.take(name, state)

    async def notes(self) -> tuple[str, ...]:
        """For whoever starts the gateway: why no session will have a folder, although the setting is given."""
        if not self.offered:
            return ()
        self._proven = None
        try:
            await self.prove()
        except DockerError as error:
            return (f"NO SESSION WILL HAVE A host_dir: {error}",)
        return ()

    @contextlib.asynccontextmanager
    async def _probe(self) -> AsyncIterator[str]:
        """A folder of our own, on a thread, since the root may be on a slow disk."""
        probe = host_dirs.probe(self._root)
        path = await asyncio.to_thread(probe.__enter__)
        try:
            yield path
        finally:
            await asyncio.shield(asyncio.to_thread(probe.__exit__, None, None, None))
