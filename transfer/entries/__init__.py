"""Values that an application logs or publishes in, the bytes of an entry out."""
