"""flow: TODO."""
