"""Imports a neighbour, as packages do."""

from . import units


class Square:
    def __init__(self, side):
        self.side = side

    def __eq__(self, other):
        return type(other) is Square and other.side == self.side

    def area(self):
        return self.side**2 * units.PER_SIDE
