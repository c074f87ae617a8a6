"""Who may do what in the console: three roles, and what each of them may see and do. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

USER = r"^[a-z0-9][a-z0-9._-]{0,31}$"
"""A user's name."""


class Role(StrEnum):
    """What a person is to the console; each has one."""

    VIEWER = "viewer"
    COMPLIANCE = "compliance"
    OPERATOR = "operator"


class May(StrEnum):
    """What can be allowed."""

    BOARD = "board"
    """Figures: nobody's data is among them."""
    MOVE = "move"
    """Stop and resume: breakers."""
    CLEANSE = "cleanse"
    """Divide a list, suppress or queue its groups, undo."""
    PEOPLE = "people"
    """Look at a person: messages, consents, history. Each look is recorded in the ledger first."""
    CASES = "cases"
    """Complaints: match, answer, close, sign a day off."""
    EXPORT = "export"
    """Records and evidence for a regulator."""
    AUDIT = "audit"
    """Who looked at whom, and who did what."""


MAY: Final[Mapping[Role, frozenset[May]]] = {
    Role.VIEWER: frozenset({May.BOARD}),
    Role.OPERATOR: frozenset({May.BOARD, May.MOVE, May.CLEANSE}),
    Role.COMPLIANCE: frozenset(May),
}
"""An operator keeps messages flowing and needs no person's data for it; compliance answers people and the regulator."""


class Session(NamedTuple):
    """Somebody signed in, as read from the tables just now."""

    digest: bytes
    name: str
    role: Role
    lang: str | None
    theme: str | None
    zone: str | None

    def may(self, what: May) -> bool:
        """Whether the role allows it."""
        return what in MAY[self.role]
