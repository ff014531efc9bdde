"""The directories through which workers and the agent speak."""
