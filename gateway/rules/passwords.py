"""Passwords: how they are kept, and what is asked of a new one. Pure; the salt comes in.

scrypt (RFC 7914) at N=2^15, r=8, p=3, one of OWASP's equal choices: 32 MiB and about a third of a second each. The
parameters stand in what is kept, so they can be raised without losing anybody's password.
"""

import base64
import hashlib
import hmac

N, R, P = 2**15, 8, 3
MEMORY = 64 * 2**20
SALT = 16
LEAST = 10
"""Characters of a password that a person chooses."""
MOST = 256


def hashed(password: str, salt: bytes) -> str:
    """What is kept of a password. `salt`: `SALT` random bytes."""
    return f"scrypt${N}${R}${P}${_text(salt)}${_text(_derived(password, salt, N, R, P))}"


def matches(password: str, kept: str) -> bool:
    """Whether this is the password; as slow for a wrong one."""
    _, n, r, p, salt, wanted = kept.split("$")
    found = _derived(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(wanted))


def wait_s(failures: int) -> float:
    """How long after the last of so many wrong passwords in a row the next try is heard at all."""
    return 0.0 if failures < 5 else min(300.0, 2.0 ** (failures - 4))  # noqa: PLR2004 - 5 typing mistakes are free


def _derived(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=MEMORY, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
