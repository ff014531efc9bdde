"""Code that travels to a cluster to show that code can: a package of the user's own."""
