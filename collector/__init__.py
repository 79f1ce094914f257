"""The collector: moves log entries from NATS JetStream into MongoDB."""
