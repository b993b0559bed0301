#!/usr/bin/env python3
"""Asks a running gateway for its runtime and its sessions."""

from door import into

into(__doc__, "gateway", "doctor", "container-health")
