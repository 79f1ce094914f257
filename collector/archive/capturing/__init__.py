"""The command `collector archive run`: options in, captures that run until a signal."""
