"""The plans that Postgres really ran, of every statement inside a function too (its ``auto_explain`` tells them)."""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import asyncpg
import msgspec

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_SETTINGS = """
load 'auto_explain';
set auto_explain.log_min_duration = 0;
set auto_explain.log_nested_statements = on;
set auto_explain.log_analyze = on;
set auto_explain.log_timing = off;
set auto_explain.log_format = json;
set auto_explain.log_level = notice;
"""


class Node(msgspec.Struct, frozen=True):
    """One step of a plan that was carried out."""

    kind: str
    table: str
    index: str
    rows: int  # rows read: those it gave and those that a filter threw away


class Explained(msgspec.Struct, frozen=True):
    """What one call did."""

    nodes: tuple[Node, ...]
    text: str  # for the failure message

    def over(self, table: str) -> list[Node]:
        """The steps over a table, or over any partition of ``events``."""
        return [node for node in self.nodes if re.fullmatch(table + r"(_\d{19})?", node.table)]

    def indexes(self, table: str) -> set[str]:
        """Their indexes, without the number of the partition; an empty name is a step without one."""
        return {re.sub(r"\d{19}", "N", node.index) for node in self.over(table)}

    def partitions(self) -> set[str]:
        """Those that gave rows; empty ones ahead of the head are looked into for nothing."""
        return {node.table for node in self.over("events") if node.rows}

    def read(self, table: str) -> int:
        return sum(node.rows for node in self.over(table))


async def explain(admin: Connection, call: str, *arguments: object) -> Explained:
    """Run ``call`` and tell its plans. ``admin`` is a superuser's connection."""
    told: list[str] = []
    listener = lambda _, message: told.append(str(message.message))  # noqa: E731  # taken out again below
    await admin.execute(_SETTINGS)
    admin.add_log_listener(listener)
    try:
        await admin.fetch(call, *arguments)
    finally:
        admin.remove_log_listener(listener)
        await admin.execute("set auto_explain.log_min_duration = -1")
    plans = [text.partition("plan:")[2] for text in told if "plan:" in text]
    assert plans, f"no plan was told for {call}"
    return Explained(tuple(node for text in plans for node in _nodes(json.loads(text)["Plan"])), "\n".join(plans))


def _nodes(plan: dict[str, Any]) -> Iterator[Node]:
    loops = plan["Actual Loops"]
    if loops and "Relation Name" in plan:
        thrown = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        rows = round((plan["Actual Rows"] + thrown) * loops)
        bitmap = [inner.get("Index Name", "") for inner in plan.get("Plans", ()) if "Bitmap" in inner["Node Type"]]
        yield Node(plan["Node Type"], plan["Relation Name"], plan.get("Index Name") or "".join(bitmap), rows)
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)
