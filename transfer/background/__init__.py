"""`send`: entries wait in an outbox, and a thread of its own publishes them."""
