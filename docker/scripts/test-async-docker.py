#!/usr/bin/env python3
"""Runs many Docker operations at once and measures how late the event loop was."""

from door import into

into(__doc__, "gateway", "doctor", "async-docker")
