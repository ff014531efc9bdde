"""Interpreters and environments, and how a shell comes to them."""
