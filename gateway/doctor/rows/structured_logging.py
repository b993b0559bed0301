"""Whether a log line is one JSON object with its fields, holds no secret, and can go where LOG_FILE says."""

import logging
import os
import secrets
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.doctor.row import Finding, Row, failed, passed
from gateway.doctor.surroundings import Surroundings
from gateway.log_lines import as_human, as_json, line_of
from gateway.logs import ROOT_LOGGER, LogSettings

FIELDS: Final = ("timestamp", "level", "logger", "message", "request_id", "trace_id")
FAULT: Final = "Report it: this is our fault."


async def _look(here: Surroundings) -> Finding:
    settings = here.settings().logs
    secret = f"gwk_{secrets.token_hex(16)}"
    made = _record(f"a line of the doctor\nwith token={secret} and {secret}")
    told = as_json(made)
    if secret in told or secret in as_human(made):
        return failed("A log line holds a secret that should have been cut out.", FAULT)
    if "\n" in told or "\n" in as_human(made):
        return failed("A message with a line break makes two log lines.", FAULT)
    fields: dict[str, Any] = msgspec.json.decode(told)
    if missing := [name for name in FIELDS if name not in fields]:
        return failed(f"A log line lacks {', '.join(missing)}.", FAULT)
    if settings.writes_file and (trouble := unwritable(Path(settings.log_file))):
        return failed(trouble, "Give the gateway's user a folder that it may write to, in LOG_FILE.")
    return passed(f"Lines of {settings.log_level} and above go to {_targets(settings)}, secrets cut out.")


def unwritable(file: Path) -> str:
    """Why a log file cannot be written, asked without making it; empty when it can."""
    target = file if file.exists() else file.absolute().parent
    if not target.exists():
        return f"The folder of LOG_FILE, {target}, does not exist."
    return "" if os.access(target, os.W_OK) else f"LOG_FILE={file} cannot be written by this user."


def _record(message: str) -> Any:
    return line_of(logging.LogRecord(f"{ROOT_LOGGER}.doctor", logging.INFO, __file__, 1, message, None, None, "look"))


def _targets(settings: LogSettings) -> str:
    named = [f"the console ({settings.log_format})"] if settings.log_console else []
    named += [settings.log_file] if settings.writes_file else []
    return " and ".join(named) or "nowhere"


ROW: Final = Row(name="structured-logging", look=_look, seconds=5)
