"""The files of a cluster: as an fsspec filesystem, and through the `cluster_*` functions."""
