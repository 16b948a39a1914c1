"""Deployments: a folder of versions, of which the link `current` leads to one that works, whatever is killed when."""

from .folder import Deployment

__all__ = ["Deployment"]
