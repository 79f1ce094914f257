"""Time-series collections: each entry once, although no unique index is there. The protocol: docs/timeseries.md."""
