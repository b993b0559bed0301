#!/usr/bin/env python3
"""Makes a session's container on the daemon, asks it, stops and removes it."""

from door import into

into(__doc__, "gateway", "doctor", "docker-service")
