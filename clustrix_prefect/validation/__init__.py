"""What the validation flows do: look at clusters, and say what they found."""
