"""Sending the calls of task runs to a cluster, and bringing back what became of them."""
