"""Whether the environment can be used: every setting, its name and its value."""

from typing import Final

from gateway.doctor.row import Finding, Row, failed, passed
from gateway.doctor.surroundings import Surroundings
from gateway.settings import BadSettings, names


async def _look(here: Surroundings) -> Finding:
    try:
        here.settings()
    except BadSettings as error:
        sentence = f"{len(error.problems)} problem(s): {'; '.join(error.problems)}"
        return failed(sentence, "Correct them: docs/settings.md lists every setting.", problems=error.problems)
    given = sorted(set(names()) & set(here.environment))
    return passed(f"{len(given)} settings are given, and all can be used.", given=given)


ROW: Final = Row(name="settings", look=_look, seconds=5)
