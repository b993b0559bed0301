"""Bars: a benchmark that misses one ends with 1; what it weighs is what the product keeps."""

import json

import pytest

from benchmarks import append, fold, scale, search
from benchmarks.__main__ import told
from benchmarks.bars import missed
from projections.projection import fold as fold_all
from projections.session_state import Sessions
from projections.tables import SESSIONS


@pytest.mark.parametrize(
    ("bar", "reached", "not_reached"),
    [(">= 250,000", 250_000, 249_999.9), ("<= 1.5", 1.5, 1.51), ("< 5", 4.99, 5), ("> 0.4", 0.41, 0.4)],
)
def test_a_bar_is_read_as_it_is_written(bar: str, reached: float, not_reached: float) -> None:
    assert missed({"a": reached, "b": 1}, {"a": bar}) == []
    assert missed({"a": not_reached}, {"a": bar}) == [f"a is {not_reached:,}, and must be {bar}"]


def test_a_bar_that_nothing_is_held_to_is_no_pass() -> None:
    with pytest.raises(KeyError):
        missed({"a": 1}, {"b": "< 5"})
    for bar in ("about 5", "<5", "< 5 ms", ""):
        with pytest.raises(ValueError, match="is no bar"):
            missed({"a": 1}, {"a": bar})


@pytest.mark.parametrize("module", [append, fold, scale, search], ids=lambda module: module.__name__)
def test_the_bars_of_every_benchmark_can_be_read(module: object) -> None:
    bars: dict[str, str] = vars(module)["BARS"]
    assert bars
    missed(dict.fromkeys(bars, 1.0), bars)


@pytest.mark.parametrize(("figure", "code"), [(4.0, 0), (6.0, 1)])
def test_the_figures_come_last_and_the_code_is_the_verdict(
    capsys: pytest.CaptureFixture[str], figure: float, code: int
) -> None:
    assert told({"p99_ms": figure}, {"p99_ms": "< 5"}) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"p99_ms": figure}
    assert ("missed: p99_ms is 6.0, and must be < 5" in err) == bool(code)


def test_what_is_weighed_shares_its_texts_as_a_start_does() -> None:
    folded = fold_all(Sessions(), {}, fold.opened(3, lambda done: None))
    read = fold.started([(key, SESSIONS.kept(state)) for key, state in folded.items()])
    assert read == folded
    assert len({id(state.runtime) for state in read.values()}) == 1
    assert all(state.session_id is key for key, state in read.items())
