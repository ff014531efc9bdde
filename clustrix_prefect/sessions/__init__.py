"""Clusters that are open: one connection, what was learnt over it, and what is asked through it."""
