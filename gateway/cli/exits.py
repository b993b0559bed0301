"""Exit codes: the verdict of every command; the table for those who script against them is in ``gateway/README.md``."""

import enum


class Exit(enum.IntEnum):
    """What a command ended with."""

    OK = 0
    NEGATIVE = 1  # it worked, and the answer is no: a session that failed, nothing to erase
    USAGE = 2  # arguments or settings
    UNREACHABLE = 3  # no gateway answers
    REFUSED = 4  # the gateway answered with a problem
    LOG_UNAVAILABLE = 5  # the log cannot be reached, read or opened
    RUNTIME_UNAVAILABLE = 6  # the container runtime cannot be used
    SKIPPED = 77  # doctor: there was nothing to look at (as of automake's tests)
    CANNOT_LISTEN = 69  # serve: the address is taken or not ours (EX_UNAVAILABLE of sysexits.h)
    FORCED = 70  # serve: something had to be ended by force (EX_SOFTWARE)
    BAD_BIND = 78  # serve: GATEWAY_BIND is no address (EX_CONFIG)
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class Failure(Exception):
    """Ends a command: its sentences go to the standard error output, one a line."""

    def __init__(self, code: Exit, *sentences: str) -> None:
        super().__init__(*sentences)
        self.code, self.sentences = code, sentences
