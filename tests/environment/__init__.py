"""Environments: what a cluster has, and what is built there."""
