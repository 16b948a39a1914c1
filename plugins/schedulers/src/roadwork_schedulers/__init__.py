"""Optimizers and learning-rate schedulers for roadwork."""
