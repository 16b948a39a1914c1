"""The supervised loop on Accelerate: precision, accumulation, averaged weights, selection, exact resume."""
