"""tail: TODO."""
