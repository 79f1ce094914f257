"""The owner of a capture: its lease, what it asks of JetStream, and its tenure from the end of the log to a doubt."""
