"""Valkey, Kafka and PostgreSQL of a test's own, which it may stop, freeze and kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.local.parts import Kafka, Part, Postgres, Valkey, bring_up, free_port


@contextmanager
def three_parts(parts_dir: Path, name: str) -> Iterator[dict[str, Part]]:
    """Started together under `name`, ended together."""
    home, log = parts_dir / name, parts_dir / "log"
    own: dict[str, Part] = {
        "valkey": Valkey(home / "valkey", free_port(), log / f"{name}-valkey.log"),
        "kafka": Kafka(home / "kafka", free_port(), free_port(), log / f"{name}-kafka.log"),
        "postgres": Postgres(home / "postgres", free_port(), log / f"{name}-postgres.log"),
    }
    home.mkdir()
    home.chmod(0o711)
    try:
        bring_up(list(own.values()))
        yield own
    finally:
        for part in own.values():
            part.child.ask()
        for part in own.values():
            part.stop()
