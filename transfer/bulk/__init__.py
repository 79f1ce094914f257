"""Many publications at once: those of `transfer publish`, with progress, and lines from files."""
