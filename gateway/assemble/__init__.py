"""Puts processes together from plain values and takes them apart in reverse; reads `Settings`."""

from gateway.assemble.commands import add_client, add_sender, prepare, rebuild, resume, stop
from gateway.assemble.parts import Misconfigured
from gateway.assemble.processes import deliver, edge, hold, ledger, settle

__all__ = [
    "Misconfigured",
    "add_client",
    "add_sender",
    "deliver",
    "edge",
    "hold",
    "ledger",
    "prepare",
    "rebuild",
    "resume",
    "settle",
    "stop",
]
