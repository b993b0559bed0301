"""``make bench-search`` at a small size: every part runs, and the last line is what is promised."""

import asyncio
import json
import sys

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def test_a_small_run_tells_its_figures() -> None:
    """On a server of its own, from the first event to the last search."""
    command = (sys.executable, "-m", "benchmarks", "search", "2000")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    figures = json.loads(out.splitlines()[-1])
    searches = [f"{name}_p99_ms" for name in ("trace", "correlation", "session", "rare_type_of_a_busy_actor")]
    assert list(figures) == ["cpu_us", "wall_us", "bytes_per_event", *searches]
    assert all(isinstance(figure, int | float) and figure > 0 for figure in figures.values())
    assert figures["bytes_per_event"] < 500, "does not depend on the machine"
