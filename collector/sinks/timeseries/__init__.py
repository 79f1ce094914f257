"""timeseries: TODO."""
