"""The process: its garbage collector and its event loop. Nothing here knows a logger."""
