"""bulk: TODO."""
