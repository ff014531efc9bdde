"""Real services for the tests, on ports and in directories of their own."""
