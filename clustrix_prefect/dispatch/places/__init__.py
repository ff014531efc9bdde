"""Where calls go: to warm workers of a host, to the jobs of a scheduler, to pods."""
