"""Which files are run on which database: told by the numbers of releases and by texts, never by names alone."""

from pathlib import Path

import msgspec
import pytest

from events.schema_plan import (
    MANIFEST,
    Kept,
    Manifest,
    Plan,
    Release,
    SqlFile,
    State,
    is_later,
    plan,
    read,
    sql_files,
)


def file(name: str, text: str = "") -> SqlFile:
    number = int(name.partition("_")[0])
    return SqlFile(name, text, f"hash of {text or name}", number < 200 or number >= 1000)


def release(number: str, *files: SqlFile, oldest: str = "0.1.0") -> Release:
    return Release(Manifest(number, oldest), f"hash of {number} {oldest}", files)


def after(former: Release, known: dict[str, Kept] | None = None) -> dict[str, Kept]:
    """The history of a database that a release was applied to."""
    made = dict(known or {})
    done = plan(former, made)
    number = former.manifest.release
    made |= {one.name: Kept(one.sha256, number) for one in (*done.run, *done.renamed)}
    return {**made, MANIFEST: Kept(former.sha256, number, former.manifest.oldest)}


def names(files: tuple[SqlFile, ...]) -> list[str]:
    return [one.name for one in files]


def states(made: Plan) -> dict[str, State]:
    return {one.file: one.state for one in made.files}


TABLE, CHANGE, CALL, RIGHTS = (
    file("110_table.sql"),
    file("1000_change.sql"),
    file("210_call.sql"),
    file("910_grant.sql"),
)
BASE = release("0.2.0", TABLE, CALL, RIGHTS)


@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        ("0.2.0", "0.1.0", True),
        ("0.10.0", "0.9.9", True),
        ("1.0.0", "0.99.99", True),
        ("0.1.0", "0.1.0", False),
        ("0.1.9", "0.1.10", False),
        ("2027.1", "0.2.0", True),
        (None, "0.1.0", False),
    ],
)
def test_releases_are_compared_as_numbers(one: str | None, other: str, later: bool) -> None:
    """A number of another make can only be a later release's, which this one knows nothing of."""
    assert is_later(one, other) is later


def test_empty_database_gets_every_file() -> None:
    made = plan(BASE, {})
    assert (made.database, names(made.run), made.record) == (None, names(BASE.files), True)
    assert set(states(made).values()) == {State.PENDING}


def test_database_of_this_release_gets_nothing() -> None:
    made = plan(BASE, after(BASE))
    assert (made.run, made.record, made.newer) == ((), False, False)
    assert set(states(made).values()) == {State.APPLIED}


def test_database_without_releases_is_of_the_first_one() -> None:
    """0.1.0 kept files and hashes alone."""
    known = {one.name: Kept(one.sha256) for one in BASE.files}
    made = plan(BASE, known)
    assert (made.database, made.oldest, made.run, made.record) == ("0.1.0", "0.1.0", (), True)
    assert states(made)[MANIFEST] is State.PENDING


def test_edited_function_of_a_later_release_is_not_brought_back() -> None:
    """It has the same name: by names alone the database would be of this release, and its text a former one."""
    later = release("0.3.0", TABLE, file("210_call.sql", "better"), RIGHTS)
    made = plan(BASE, after(later, after(BASE)))
    assert (made.newer, made.too_new, made.run, made.record) == (True, False, (), False)
    assert states(made)["210_call.sql"] is State.NEWER


def test_function_that_this_release_edits_is_run_with_the_rights() -> None:
    made = plan(release("0.3.0", TABLE, file("210_call.sql", "better"), RIGHTS), after(BASE))
    assert names(made.run) == ["210_call.sql", "910_grant.sql"]


def test_release_that_removed_a_file_is_still_the_later_one() -> None:
    later = release("0.3.0", TABLE, RIGHTS)
    known = after(later, after(BASE))
    assert states(plan(later, known))["210_call.sql"] is State.REMOVED
    assert plan(later, known).run == () and plan(BASE, known).newer


def test_table_under_a_new_name_is_not_made_twice() -> None:
    later = release("0.3.0", msgspec.structs.replace(TABLE, name="119_table.sql"), CALL, RIGHTS)
    made = plan(later, after(BASE))
    assert (names(made.run), names(made.renamed)) == ([], ["119_table.sql"])
    assert states(made)["119_table.sql"] is State.APPLIED
    assert plan(later, after(later, after(BASE))).renamed == ()


def test_two_tables_of_one_text_are_both_made() -> None:
    """Only a name that is gone can have been given up for another."""
    twin = msgspec.structs.replace(TABLE, name="111_twin.sql")
    assert names(plan(release("0.3.0", TABLE, twin, CALL, RIGHTS), after(BASE)).run) == [
        "111_twin.sql",
        "910_grant.sql",
    ]


def test_edited_table_is_told() -> None:
    edited = release("0.2.0", file("110_table.sql", "other"), CALL, RIGHTS)
    assert states(plan(edited, after(BASE)))["110_table.sql"] is State.EDITED


@pytest.mark.parametrize(("oldest", "too_new"), [("0.1.0", False), ("0.2.0", False), ("0.2.1", True), ("9", True)])
def test_later_release_says_who_may_still_serve(oldest: str, too_new: bool) -> None:
    later = release("0.5.0", TABLE, CHANGE, CALL, RIGHTS, oldest=oldest)
    assert plan(BASE, after(later)).too_new is too_new


def test_what_is_no_sql_file_of_ours_is_passed_over(tmp_path: Path) -> None:
    for name in ("1000_later.sql", "999_last.sql", "20_short.sql", "notes.sql", "210_x.sql.orig", "110_table.sql"):
        (tmp_path / name).write_text("select 1;")
    assert [one.name for one in sql_files(tmp_path)] == ["110_table.sql", "1000_later.sql", "999_last.sql"]


def test_directory_says_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('release = "0.3.0"\noldest = "0.2.0"\n')
    assert read(tmp_path).manifest == Manifest("0.3.0", "0.2.0")
    (tmp_path / MANIFEST).write_text('release = "next"\noldest = "0.2.0"\n')
    with pytest.raises(msgspec.ValidationError):
        read(tmp_path)
