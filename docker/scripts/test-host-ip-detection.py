#!/usr/bin/env python3
"""Shows where published ports are reached, and what each method of finding it says."""

from door import into

into(__doc__, "docker.host_report")
