"""From a dataset component to samples that a stage may see: table, splits, leakage check, decoding."""
