"""Threads, forks and the resolver of the operating system, also under gevent, eventlet and uWSGI."""
