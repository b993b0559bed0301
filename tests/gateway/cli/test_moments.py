"""What --as-of, --tz and --fold mean together, before anything is asked."""

import pytest

from gateway.cli import moments
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Fold

TWICE = "2026-10-25T02:30:00"


@pytest.mark.parametrize(
    ("as_of", "tz", "fold", "exact", "told"),
    [
        ("7", None, None, "7", "As of 7: position 5."),
        ("7", "Europe/Berlin", None, "7", "As of 7: position 5."),
        ("2026-07-01T12:00:00Z", None, None, "2026-07-01T12:00:00Z", "As of 2026-07-01T12:00:00Z: position 5."),
        (
            "2026-07-01 12:00",
            "Europe/Berlin",
            None,
            "2026-07-01T10:00:00Z",
            "As of 2026-07-01 12:00 (2026-07-01 12:00:00.000+02:00): position 5.",
        ),
        (
            TWICE,
            "Europe/Berlin",
            Fold.FIRST,
            "2026-10-25T00:30:00Z",
            f"As of {TWICE} (2026-10-25 02:30:00.000+02:00): position 5.",
        ),
        (
            TWICE,
            "Europe/Berlin",
            Fold.SECOND,
            "2026-10-25T01:30:00Z",
            f"As of {TWICE} (2026-10-25 02:30:00.000+01:00): position 5.",
        ),
        (f"{TWICE}+01:00", None, None, "2026-10-25T01:30:00Z", f"As of {TWICE}+01:00: position 5."),
    ],
)
def test_a_moment_is_made_exact_and_told(as_of: str, tz: str | None, fold: Fold | None, exact: str, told: str) -> None:
    """What was asked for stays to be read; a local time is told with the instant it was taken for."""
    then = moments.then(as_of, tz, fold)
    assert (then.exact, then.told(5)) == (exact, told)


@pytest.mark.parametrize(
    ("as_of", "tz", "fold", "says"),
    [
        (TWICE, None, None, "--as-of: .*offset.* its time zone: --tz"),
        (TWICE, "Europe/Berlin", None, r"--as-of: .*02:30:00\+02:00 and .*02:30:00\+01:00.* --fold"),
        ("2026-03-29T02:30:00", "Europe/Berlin", Fold.FIRST, "--as-of: .*never was in Europe/Berlin"),
        ("yesterday", None, None, "--as-of: .*neither"),
        ("3", "Berlin", None, "--tz: .*Europe/Berlin"),
        (None, None, Fold.FIRST, "--fold"),
    ],
)
def test_what_is_not_one_moment_is_refused_here(
    as_of: str | None, tz: str | None, fold: Fold | None, says: str
) -> None:
    with pytest.raises(Failure, match=says) as refused:
        moments.then(as_of, tz, fold)
    assert refused.value.code == Exit.USAGE
    assert len(refused.value.sentences) == 1


def test_a_zone_alone_is_for_showing() -> None:
    then = moments.then(None, "America/New_York", None)
    assert (then.exact, str(then.zone)) == (None, "America/New_York")
