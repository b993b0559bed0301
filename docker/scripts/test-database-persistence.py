#!/usr/bin/env python3
"""Opens the log, reads its end twice, and measures the way."""

from door import into

into(__doc__, "gateway", "doctor", "database-persistence")
