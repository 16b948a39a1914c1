"""Datasets for roadwork: image folders, manifests and rendered street scenes."""
