"""Streams in files: each message is in exactly one block, and comes back by a replay."""
