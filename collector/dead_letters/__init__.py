"""Entries that can never be stored: kept, found again, read, published again, removed."""
