#!/usr/bin/env python3
"""Asks a running gateway for its connections to containers."""

from door import into

into(__doc__, "gateway", "doctor", "http-connection-pool")
