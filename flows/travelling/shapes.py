"""A module that imports its neighbour."""

from flows.travelling import units


class Square:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2 * units.PER_SIDE
