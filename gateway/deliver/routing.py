"""Which carrier a message goes through, and what decides it. Pure."""

from collections.abc import Container

from gateway.contract.registry import Sender


def carrier_of(sender: Sender, default: str, running: Container[str]) -> str | None:
    """The sender's own carrier, else the default; None when the one named does not run in this process.

    A sender's ports are registered with its carrier: falling back to another would submit from a port it does not know.
    """
    name = sender.carrier or default
    return name if name in running else None
