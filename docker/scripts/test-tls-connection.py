#!/usr/bin/env python3
"""Says whether the Docker daemon can be used over mutual TLS, and if not why and what to do."""

from door import into

into(__doc__, "docker.diagnose")
