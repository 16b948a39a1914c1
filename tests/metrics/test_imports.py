"""The metrics need numpy and attrs, nothing else."""

from __future__ import annotations

import subprocess
import sys


def test_using_the_metrics_imports_neither_scipy_nor_scikit_learn_nor_torch() -> None:
    code = (
        "import sys, numpy as np, roadwork_core.metrics as m\n"
        "m.sweep([0., 1., 2.], [0, 1, 1]); m.clopper_pearson(3, 10)\n"
        "m.bootstrap_counts(m.group_counts([0, 1, 1], [0, 1, 0]), m.mcc, resamples=10)\n"
        "print([name for name in ('scipy', 'sklearn', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
