"""background: TODO."""
