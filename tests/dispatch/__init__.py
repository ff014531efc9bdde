"""What the dispatcher makes of trouble: on real clusters, with a real Prefect server."""
