"""Prefect flows whose tasks run on the clusters you already have."""
