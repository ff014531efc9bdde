"""Blocks and automations from readable files, made so on the Prefect server."""
