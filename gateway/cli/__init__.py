"""The `assent` command: one subcommand per process, and what an operator types; `command` has what they share."""

from gateway.cli import (
    alerts,
    cleansing,
    complaints,
    console,
    log,
    operating,
    people,
    processes,
    proving,
    records,
    registering,
    webhooks,
)
from gateway.cli.command import app

__all__ = [
    "alerts",
    "app",
    "cleansing",
    "complaints",
    "console",
    "log",
    "operating",
    "people",
    "processes",
    "proving",
    "records",
    "registering",
    "webhooks",
]
