"""What runs calls."""
