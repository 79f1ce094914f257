"""jetstream: TODO."""
