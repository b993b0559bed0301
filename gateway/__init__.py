"""The gateway: the only room that knows the others; nobody imports it."""

from typing import Final

RELEASE: Final = "0.2.0"
