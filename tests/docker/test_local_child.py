"""What a local container's process says is kept, within bounds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docker.local import LocalService
from docker.local_child import LOG_LIMIT, BoundedLog, last_lines
from tests.docker.local_factory import local_service
from tests.docker.local_world import run


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[LocalService]:
    async with local_service(tmp_path) as opened:
        yield opened


def test_output_is_bounded_and_the_newest_is_kept(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log")
    for number in range(40_000):
        log.write(b"%063d\n" % number)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= LOG_LIMIT
    kept = last_lines(tmp_path / "log", 1_000_000)
    assert [int(line) for line in kept] == list(range(40_000 - len(kept), 40_000))
    assert len(kept) * 64 >= LOG_LIMIT // 2
    assert last_lines(tmp_path / "log", 0) == []


async def test_the_last_words_of_a_process_are_kept(service: LocalService) -> None:
    """They say why it ended, and are still in the pipe when its end is seen."""
    said = await run(service, "/bin/sh", "-c", "seq 1 20000; echo last words >&2")
    assert said[-1] == "last words"
