#!/usr/bin/env python3
"""Tries a running gateway with a key and a token that it does not know."""

from door import into

into(__doc__, "gateway", "doctor", "session-auth")
