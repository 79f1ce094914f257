"""dead_letters: TODO."""
