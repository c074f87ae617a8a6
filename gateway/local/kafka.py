"""The embedded Kafka: one real KRaft broker and controller in one process, on loopback.

Owns the broker's properties and its log folder. The quorum's voters name a port, so properties are written anew at
every start. A crash loses nothing that was flushed by the system: replication is 1 here, so `acks=all` means this broker.
"""

import secrets
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from gateway.local import java
from gateway.local.child import Child

HEAP_MB = 384
FLAGS = (
    f"-Xms{HEAP_MB // 3}m",
    f"-Xmx{HEAP_MB}m",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)


class Kafka:
    """A Kafka broker under `home`."""

    name = "Kafka"

    def __init__(
        self, home: Path, port: int, controller_port: int, log: Path, report: java.Report = lambda _: None
    ) -> None:
        self.home, self.port, self.controller_port, self._log, self._report = home, port, controller_port, log, report
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
            identity = secrets.token_urlsafe(16)[:22]
            tool = [
                runtime,
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-cp",
                class_path,
                "kafka.tools.StorageTool",
            ]
            tool += ["format", "-t", identity, "-c", str(properties)]
            made = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
            if made.returncode:
                raise RuntimeError(f"Kafka's log folder could not be formatted: {made.stderr.strip()[-1000:]}")
        self.child = Child(
            self.name, [runtime, *FLAGS, "-cp", class_path, "kafka.Kafka", str(properties)], log=self._log, grace_s=15.0
        )

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
            "log.dirs": self.home / "data",
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
            "broker.session.timeout.ms": 4000,
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
