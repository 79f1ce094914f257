"""The client's side of NATS: connection, JetStream's API, and what it needs of streams and durables."""
