"""Time-series collections: each entry once, where no index keeps it. The protocol is in docs/timeseries.md."""
