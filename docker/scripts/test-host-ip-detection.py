#!/usr/bin/env python3
"""Shows where the gateway reaches published ports, and what each method says; tested in ``docker/host_report.py``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / ".venv/bin/python"

if OURS.exists() and Path(sys.executable).absolute() != OURS and "VIRTUAL_ENV" not in os.environ:
    os.execv(OURS, [str(OURS), *sys.argv])
sys.path.insert(0, str(ROOT))

from docker.host_report import main  # noqa: E402 - found only now

sys.exit(main())
