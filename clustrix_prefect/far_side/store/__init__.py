"""What calls need and return, kept once by its content."""
