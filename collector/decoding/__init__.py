"""decoding: TODO."""
