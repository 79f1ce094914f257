"""The benchmark: `python -m bench`, or `make bench`. Real servers, medians with their spread, ratios within one run."""
