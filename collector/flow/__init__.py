"""The decisions of a pipeline: memory, batches, deliveries in hand, and how they are settled. Pure, without tasks."""
