"""system: TODO."""
