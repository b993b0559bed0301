"""Lines of ``projections``: how tables stand, what a proof found and a rebuild did, for people."""

from datetime import tzinfo

from events.catalogue import ProjectionRebuilt
from gateway.cli import durations, printing
from projections.drift import words
from projections.proof import Proof
from projections.table_report import Report, TableReport


def show_rebuilt(done: ProjectionRebuilt) -> None:
    """One table that was made anew."""
    former = f"{done.differing} differed from the former table" if done.differing else "as the former table held them"
    took = durations.told(done.duration_us)
    rows = printing.count(done.rows, "row")
    printing.line(f"{done.projection}: {rows} at position {done.position}, {former}; {took} since it was begun.")


def show_proof(proof: Proof) -> None:
    """One table that was compared, with the rows that differ, each field on both sides."""
    at = f"at position {proof.position}"
    if not proof.differing:
        printing.line(f"{proof.name}: {printing.count(proof.rows, 'row')} {at}, as the log says.")
        return
    printing.line(f"{proof.name}: {words(proof)} {at}; the table has {proof.rows}, the log makes {proof.made}.")
    rows = list[list[str]]()
    for one in proof.drift:
        if one.kind == "changed":
            rows += [[one.key, each.field, each.table, each.log] for each in one.differences]
        else:
            told = ("no row", "a row") if one.kind == "missing" else ("a row", "no row")
            rows.append([one.key, one.kind, *told])
    printing.table(["key", "what", "table", "log"], rows)
    if proof.differing > len(proof.drift):
        printing.line(f"... and {printing.count(proof.differing - len(proof.drift), 'more row')}.")


def show_report(found: Report, zone: tzinfo | None = None) -> None:
    """Every table, or every projection of a log that has none; times are those of ``zone``."""
    if found.source == "fold":
        rows = [[one.name, one.version, one.rows, one.position, one.lag] for one in found.projections]
        printing.table(["projection", "version", "states", "position", "lag"], rows)
        printing.line(f"The log {found.log_id} ends at position {found.head}. It is a file, which has no tables.")
        return
    titles = ["table", "version", "position", "lag", "rows", "updated", "proved", "rebuild"]
    printing.table(titles, [_cells(one, zone) for one in found.projections])
    if not all(one.rows_exact for one in found.projections):
        printing.line("~: as Postgres estimates it; --exact counts.")
    printing.line(f"The log {found.log_id} ends at position {found.head}.")
    if found.projector is None:
        printing.line("No gateway carries the tables on.")
    else:
        printing.line(f"{found.projector.holder} carries the tables on.")


def _cells(one: TableReport, zone: tzinfo | None) -> list[object]:
    made = one.table_version is not None
    version = one.version if one.table_version in (None, one.version) else f"{one.table_version} (code: {one.version})"
    return [
        one.name,
        version,
        one.position if made else "never made",
        one.lag,
        one.rows if one.rows_exact else f"~{one.rows}",
        printing.when(one.updated_at, zone=zone) if made else None,
        _proved(one, zone),
        _under_way(one, zone),
    ]


def _proved(one: TableReport, zone: tzinfo | None) -> str | None:
    if one.proved is None:
        return None
    verdict = words(one.proved) if one.proved.differing else "right"
    return f"{verdict} at {one.proved.position}, {printing.when(one.proved.verified_at, zone=zone)}"


def _under_way(one: TableReport, zone: tzinfo | None) -> str | None:
    if one.rebuild is None:
        return None
    if one.rebuild.holder is None:
        return f"at {one.rebuild.position}, interrupted"
    # Whoever was killed seems to be at it until then.
    until = printing.when(one.rebuild.expires_at, zone=zone)
    return f"at {one.rebuild.position}, by {one.rebuild.holder}, until {until} or longer"
