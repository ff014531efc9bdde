"""What answers the client and watches the calls."""
