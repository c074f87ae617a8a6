"""Assent: a permission-first send gateway. ARCHITECTURE.md follows a message through these rooms."""

__version__ = "0.1.0"
