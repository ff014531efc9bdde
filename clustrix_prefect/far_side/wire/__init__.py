"""What both ends of the connection know."""
