"""The tasks: each actor owns one loop and only moves values between the pure files."""
