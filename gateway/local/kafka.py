"""The embedded Kafka: one real KRaft broker and controller in one process, on loopback.

Owns the broker's properties and its log folder. The quorum's voters name a port, so properties are written anew at
every start. A killed broker loses nothing it acknowledged: written pages belong to the system, and replication is 1.
"""

import base64
import os
import secrets
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.local import java
from gateway.local.child import Child

HEAP_MB = 384
FLAGS = (
    f"-Xms{HEAP_MB // 3}m",
    f"-Xmx{HEAP_MB}m",
    # Measured on two cores: half the CPU of a start and of the first half million records, 40 MB less; after a million
    # records the second compiler would have saved 2 µs a record.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)


class Kafka:
    """A Kafka broker under `home`."""

    name = "Kafka"

    def __init__(
        self,
        home: Path,
        port: int,
        controller_port: int,
        log: Path,
        report: java.Report = lambda _: None,
        *,
        fds: Sequence[int] = (),
    ) -> None:
        self.home, self.port, self.controller_port = home, port, controller_port
        self._log, self._report, self._fds = log, report, tuple(fds)
        self.child = Child(self.name, [], log=log)

    @property
    def endpoint(self) -> str:
        """Its address, as `Settings.kafka_bootstrap` wants it."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Fetch what is missing, write the properties, and format the log folder when it is new."""
        self.home.mkdir(parents=True, exist_ok=True)
        runtime, class_path = str(java.java()), ":".join(java.jars(self._report))
        properties = self.home / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        if not (self.home / "data/meta.properties").exists():
            self._format([runtime, *FLAGS, "-cp", class_path])
        self.child = Child(
            self.name,
            [runtime, *FLAGS, "-cp", class_path, "kafka.Kafka", properties.name],
            log=self._log,
            env=utf8(),
            cwd=self.home,
            grace_s=15.0,
            fds=self._fds,
        )

    def _format(self, jvm: list[str]) -> None:
        """Give the new log folder its cluster id: 16 bytes in base64 that do not begin with `-`."""
        identity = base64.urlsafe_b64encode(b"A" + secrets.token_bytes(15)).decode().rstrip("=")
        command = [*jvm, "kafka.tools.StorageTool", "format", "-t", identity, "-c", "server.properties"]
        made = subprocess.run(  # noqa: S603 - the command is ours
            command, capture_output=True, text=True, cwd=self.home, env=utf8(), timeout=60, check=False
        )
        if made.returncode:
            raise RuntimeError(f"Kafka's log folder could not be formatted: {made.stderr.strip()[-1000:]}")

    def _settings(self) -> dict[str, object]:
        listen = f"PLAINTEXT://127.0.0.1:{self.port}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"{listen},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": listen,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": "data",  # below the working folder: properties are Latin-1, a home may be 数据
            "auto.create.topics.enable": "false",
            "num.partitions": 2,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "log.retention.hours": 48,
            "log.segment.bytes": 64 << 20,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
            "num.network.threads": 2,
            "num.io.threads": 4,
            # A broker that was killed is let in again only when its old session is over (9 s by default).
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
        }

    def start(self) -> None:
        """Start the broker."""
        self.child.start()

    def ready(self) -> bool:
        """Whether it answers a metadata request (version 1) and lists itself as a broker."""
        request = struct.pack("!hhih", 3, 1, 7, -1) + struct.pack("!i", 0)
        with suppress(OSError, struct.error), socket.create_connection(("127.0.0.1", self.port), 1.0) as line:
            line.sendall(struct.pack("!i", len(request)) + request)
            answer = line.makefile("rb").read(12)
            _size, _correlation, brokers = struct.unpack("!iii", answer)
            return bool(brokers > 0)
        return False

    def stop(self) -> None:
        """Stop it; segments are closed cleanly, so the next start need not check them."""
        self.child.stop()


def utf8() -> dict[str, str]:
    """Our environment with a UTF-8 locale: in another one, Java cannot open a folder named 数据."""
    return dict(os.environ) | {"LC_ALL": "C.UTF-8"}
