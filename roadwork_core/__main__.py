"""`python -m roadwork_core` is `roadwork`; `accelerate launch -m roadwork_core` uses it."""

import sys

from roadwork_core.cli import main

sys.exit(main())
