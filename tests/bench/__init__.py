"""What the runner costs, beside floors and other tools: `make bench`."""
