"""Test-time augmentation for roadwork."""
