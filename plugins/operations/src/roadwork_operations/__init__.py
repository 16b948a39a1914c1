"""Trackers for roadwork runs."""
