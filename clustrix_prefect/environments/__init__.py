"""What calls find installed where they run: asked for beforehand, and built where it is missing."""
