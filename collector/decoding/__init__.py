"""Bytes of messages in, entries as documents out, and rejects for bytes that can never be an entry. Pure."""
