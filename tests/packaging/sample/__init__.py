"""A package of the user's, to be imported by tasks."""

from .shapes import Square

__all__ = ["Square"]
