"""Embedded servers and replicas on loopback, for `collector demo`, `collector local` and the tests; not for `run`."""

from collector.local.programs import MissingServer, find_mongod, find_nats_server
from collector.local.replica import Replica
from collector.local.server import Server, ServerDidNotEnd, ServerDidNotStart
from collector.local.servers import LocalServers, Mongod, NatsServer, local_servers

__all__ = [
    "LocalServers",
    "MissingServer",
    "Mongod",
    "NatsServer",
    "Replica",
    "Server",
    "ServerDidNotEnd",
    "ServerDidNotStart",
    "find_mongod",
    "find_nats_server",
    "local_servers",
]
