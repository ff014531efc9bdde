"""How a cluster is reached: one module a way."""
