#!/usr/bin/env python3
"""Reads a session's limits and hardening back from the daemon."""

from door import into

into(__doc__, "gateway", "doctor", "resource-limits")
