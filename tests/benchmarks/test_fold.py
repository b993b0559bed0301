"""``make bench-fold`` at a small size: every part runs, and the last line is what is promised."""

import asyncio
import json
import sys

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def test_a_small_run_tells_its_figures() -> None:
    """On a server of its own, from the first event to the start of a process."""
    command = (sys.executable, "-m", "benchmarks", "fold", "2000")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    figures = json.loads(out.splitlines()[-1])
    assert list(figures) == ["fold_per_s", "project_per_s", "asof_p99_ms", "startup_s", "bytes_per_session"]
    assert all(isinstance(figure, int | float) and figure > 0 for figure in figures.values())
    assert figures["bytes_per_session"] < 3_000, "does not depend on the machine"
