"""mongodb: TODO."""
