"""Calls to MongoDB: each shielded and with a deadline; its errors translated; its collections and its login."""
