"""Proves an archive: its log is whole, and each block has exactly the entries that its record gives it."""
