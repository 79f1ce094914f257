"""The command `transfer tail`."""
