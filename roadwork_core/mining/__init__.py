"""Mining: the errors of a served bundle that are worth training on, and those whose label is to be doubted."""

from .selection import Chosen, choose

__all__ = ["Chosen", "choose"]
