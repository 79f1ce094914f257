"""What an application logs or publishes -> the bytes of an entry."""
