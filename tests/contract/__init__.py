"""Prefect's TaskRunner contract, held by `ClusterTaskRunner` on every kind of cluster.

Each test runs first with Prefect's own `ThreadPoolTaskRunner`: what fails there is not
Prefect's contract. What only makes sense far away is marked `cluster_only`.

The functions that travel use nothing but the standard library, Prefect's public names and
their own module, as a user's would.
"""
