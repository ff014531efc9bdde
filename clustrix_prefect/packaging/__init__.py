"""Turning a task's function and arguments into something that travels, and results back."""
