"""Roles of API keys. Which route asks for which is in ``gateway/routes.py``; who owns what is asked by the handlers."""

import enum
from typing import Final


class Role(enum.StrEnum):
    """Who stands behind a key."""

    FRONTEND = "frontend"  # opens sessions; sees and touches only its own
    AUDITOR = "auditor"  # reads the log and every session's state; changes nothing
    OPERATOR = "operator"  # both, over all sessions


ANYONE: Final = frozenset[Role]()  # no key needed
SESSION_USERS: Final = frozenset({Role.FRONTEND, Role.OPERATOR})
READERS: Final = frozenset({Role.AUDITOR, Role.OPERATOR})
EVERYONE: Final = frozenset(Role)
