"""How a kind of cluster starts, lists and cancels jobs: one module a scheduler."""
