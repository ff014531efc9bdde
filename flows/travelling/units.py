"""A module that only another module imports."""

PER_SIDE = 10
