"""Runs the echo agent as what it is, a plain file, for the time of a test."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from docker.local import ECHO


class EchoProcess:
    """A running agent: where it listens and the process itself."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"

    async def talk(self, *written: bytes) -> bytes:
        """Write these bytes on a connection of their own, and read until the agent closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in written:
            writer.write(piece)
            await writer.drain()
        answered = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answered


@asynccontextmanager
async def echo_process(home: Path, *arguments: str, environment: Mapping[str, str] = {}) -> AsyncIterator[EchoProcess]:
    """The agent on a port that the kernel chose; killed at the end when it still runs."""
    words = (sys.executable, "-I", str(ECHO), "--port", "0", *arguments)
    surroundings = {"HOME": str(home), **environment}
    process = await asyncio.create_subprocess_exec(*words, env=surroundings, cwd=home, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), 10)
        yield EchoProcess(process, int(said.rsplit(b":", 1)[1]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic authentication (RFC 7617)."""
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
