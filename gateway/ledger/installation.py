"""What a database was made with: its pepper, master key and number of lanes, compared at every start.

A wrong pepper names every recipient anew, so no opt-out would ever match again; a wrong master key could not open what
is there; another number of lanes would look for people where they are not. Each refuses to start.
"""

from gateway.contract.ids import LANES
from gateway.ledger.keys import Keys
from gateway.ledger.rows import Connection

CLAIM = """
INSERT INTO installation (lanes, pepper_check, master_check) VALUES ($1, $2, $3) ON CONFLICT (one) DO NOTHING
"""
TIMEOUT_S = 5.0


class ForeignDatabaseError(Exception):
    """The database belongs to another installation; the text says what differs, never a secret."""


async def check(connection: Connection, keys: Keys) -> None:
    """Claim a fresh database for these keys, or compare."""
    pepper, master = keys.checks()
    await connection.execute(CLAIM, LANES, pepper, master, timeout=TIMEOUT_S)
    row = await connection.fetchrow("SELECT lanes, pepper_check, master_check FROM installation", timeout=TIMEOUT_S)
    if row is None:
        raise ForeignDatabaseError("the installation row is gone")
    wrong = [
        name
        for name, here, there in (
            ("lanes", LANES, row["lanes"]),
            ("pepper", pepper, row["pepper_check"]),
            ("master key", master, row["master_check"]),
        )
        if here != there
    ]
    if wrong:
        raise ForeignDatabaseError(f"this database was made with another {' and '.join(wrong)}")
