"""Products to run: this one, those that were released, and one that is to come; and what runs inside of them."""

import asyncio
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from events.schema_plan import MANIFEST, SQL_DIR, Manifest
from gateway import RELEASE
from tests.event_fixtures import APP_USER, as_user, until

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parent.parent
RELEASED: Final = sorted(path.stem for path in FOLDER.glob("*.zip"))
SECONDS: Final = 60.0


class Product(msgspec.Struct, frozen=True):
    """Where its code and its SQL lie."""

    root: Path
    sql: Path


CURRENT: Final = Product(ROOT, SQL_DIR)


def released(number: str, where: Path) -> Product:
    """A release as it was, unpacked below ``where``."""
    root = where / number
    with zipfile.ZipFile(FOLDER / f"{number}.zip") as archive:
        archive.extractall(root)
    return Product(root, root / "sql")


def to_come(where: Path) -> Product:
    """This code as the next release would be: it adds a column and a table, and one parameter to append_batch."""
    sql = Path(shutil.copytree(SQL_DIR, where / "next"))
    major, minor, _ = RELEASE.split(".")
    number = f"{major}.{int(minor) + 1}.0"
    (sql / MANIFEST).write_text(f'release = "{number}"\noldest = "{RELEASE}"\n')
    (sql / "1900_mood.sql").write_text(
        "alter table log.events add column mood text;\n"
        "create table log.mood (mood text not null, constraint mood_pk primary key (mood));\n"
        # With its one more parameter the function would stand beside the former one, and calls could mean either.
        "drop function log.append_batch;\n"
    )
    batch = sql / "210_append_batch.sql"
    text = batch.read_text()
    assert text.count("p_epoch bigint[]\n)") == 1
    batch.write_text(text.replace("p_epoch bigint[]\n)", "p_epoch bigint[], p_mood text default null\n)"))
    return Product(ROOT, sql)


def number_of(product: Product) -> str:
    """The release that its SQL is of."""
    if not (product.sql / MANIFEST).exists():
        return "0.1.0"
    return msgspec.toml.decode((product.sql / MANIFEST).read_bytes(), type=Manifest).release


class Inside:
    """A process of a product. ``lines``: what it printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        self._complaints: list[str] = []
        self._readers = [
            asyncio.create_task(_follow(process.stdout, self.lines)),
            asyncio.create_task(_follow(process.stderr, self._complaints)),
        ]

    async def prints(self, more: int) -> None:
        """Wait until it has printed so many lines more."""
        await self.printed(len(self.lines) + more)

    async def printed(self, wanted: int) -> None:
        """Wait until it has printed so many lines."""

        async def enough() -> bool:
            assert self._process.returncode is None or len(self.lines) >= wanted, self._complaints
            return len(self.lines) >= wanted

        await until(enough, SECONDS)

    def go(self) -> None:
        """Give it the line that it waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        await self.end()

    async def end(self) -> None:
        """Wait until it has ended, and well."""
        async with asyncio.timeout(SECONDS):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        assert code == 0, self._complaints

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)


@asynccontextmanager
async def inside(
    product: Product, what: str, database: str, *arguments: str, user: str = APP_USER
) -> AsyncIterator[Inside]:
    """Run ``inside.py`` on a database (the DSN to migrate with) with a product's code and SQL, as ``user``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(FOLDER / "inside.py"), what, database, as_user(database, user), user),
        *(str(product.sql), *arguments),
        env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "PYTHONPATH": str(product.root)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Inside(process)
    try:
        yield running
    finally:
        await running.close()


async def _follow(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    async for line in stream:
        lines.append(line.decode().rstrip("\n"))
