"""Bytes of messages in, entries as documents out, and what can never be an entry as rejects. Pure."""
