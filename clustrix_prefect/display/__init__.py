"""What a person reads of a flow, on the terminal and on its pages."""
