"""A process that ends with the first optimizer step of one contender: `first_step.py CONTENDER FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from contenders import CONTENDERS
from workloads import decode_bound

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](decode_bound(Path(sys.argv[2]), 256), lambda: os._exit(0))
