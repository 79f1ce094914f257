"""Other logging libraries -> entries of a logger: a module for each, which needs that library.

All take the keywords of `TransferHandler`, and as it does they queue and return at once, and never raise.
"""
