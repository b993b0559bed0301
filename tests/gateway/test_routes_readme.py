"""The route table of ``gateway/README.md`` is the one of ``gateway/routes.py``."""

import re
from typing import Final

from gateway.access.roles import EVERYONE
from gateway.routes import ROUTES
from tests.house import pages

_PATH: Final = re.compile(r"`(/[^`]*)`")
PROXY: Final = ("any", "/s/{session_id}/{path}")  # mounted, not a route of the table


def test_the_readme_lists_every_route_with_its_roles() -> None:
    """Who may do what is looked up there first."""
    told = {}
    for line in pages.text("gateway/README.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and (paths := _PATH.findall(cells[1])):
            told.update({(cells[0], path): cells[2] for path in paths})
    assert told.pop(PROXY) == "the session's token"
    assert told == {(route.method, route.path): _roles(route.roles) for route in ROUTES}


def _roles(roles: frozenset[str]) -> str:
    if roles == EVERYONE:
        return "all"
    return ", ".join(sorted(roles, key=["frontend", "auditor", "operator"].index)) or "none"
