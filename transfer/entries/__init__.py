"""entries: TODO."""
