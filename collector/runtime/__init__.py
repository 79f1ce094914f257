"""The process: its garbage collector and its event loop. No module here knows a logger."""
