"""What a pipeline decides without a task: memory, batches, what is in hand, and how deliveries are settled. Pure."""
