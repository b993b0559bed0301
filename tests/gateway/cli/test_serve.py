"""``serve``: what it tells whoever starts it, and whoever reads its log lines afterwards."""

from pathlib import Path

from tests.walks.process import reached, serving


async def test_warnings_are_log_lines_where_nobody_watches(tmp_path: Path) -> None:
    """A collector reads JSON; what was only printed in clear stands nowhere for it."""
    async with serving(tmp_path, {"USE_DATABASE_STORAGE": "false"}) as gateway:
        printed = [line.removeprefix("! ") for line in gateway.told if line.startswith("! ")]
        assert any(note.startswith("NO ISOLATION") for note in printed)
        await reached(lambda: len([line for line in gateway.lines if line["logger"].endswith(".serve")]) > len(printed))
        ours = [line for line in gateway.lines if line["logger"].endswith(".serve")]
        assert [line["message"] for line in ours if line["level"] == "WARNING"] == printed
        (listens,) = [line for line in ours if line["level"] == "INFO"]
        assert listens["url"] == gateway.url
