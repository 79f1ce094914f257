"""The tasks: each actor owns one loop, and moves values between the modules that decide."""
