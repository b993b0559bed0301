#!/usr/bin/env python3
"""Looks at log lines: their fields, that secrets are cut out, where they go."""

from door import into

into(__doc__, "gateway", "doctor", "structured-logging")
