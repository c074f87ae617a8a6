"""When a webhook is tried again, and what an answer means: pure.

The waits follow the example of Standard Webhooks. Each is drawn anew from around its mean, half of it to half more, so
that what failed together does not come back together. A draw from zero up ("full jitter") would halve the whole to
eight hours, and could spend the first tries within a second.
"""

from typing import Final, NamedTuple

WAITS_S: Final = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800)
"""Mean waits after the first try, the second, and so on; the tenth try, after some 16 hours, is the last."""
MOST_AFTER_S: Final = 3_600.0
"""Retry-After is believed up to an hour."""
MOST_AGE_MS: Final = 3 * 86_400_000
"""What could not be delivered within three days, for whatever reason, is given up."""
LEAST_SPREAD: Final = 0.5
_OK, _MANY = 200, 300
_GONE: Final = 410


class Outcome(NamedTuple):
    """What came of one try. `label` is of the closed set of the metric `assent_webhooks_total`."""

    label: str
    detail: str = ""
    """What dead letters show beside it: a status, a class of fault; never anything the other side chose."""
    after_s: float | None = None

    def last(self) -> str:
        """As it is kept with the row."""
        return f"{self.label} {self.detail}".rstrip()


DELIVERED: Final = Outcome("delivered")
GONE: Final = Outcome("gone")
EXPIRED: Final = Outcome("expired")
UNSIGNED: Final = Outcome("unsigned")


def read(status: int, after_s: float | None) -> Outcome:
    """What an answer means: 2xx is taken in, 410 (RFC 9110 §15.5.11) is for good, all else is tried again."""
    if _OK <= status < _MANY:
        return DELIVERED
    return GONE if status == _GONE else Outcome("refused", str(status), after_s)


def wait_s(attempts: int, after_s: float | None, draw: float) -> float | None:
    """Seconds until the next try after `attempts` of them; none where that was the last.

    `draw` is uniform in [0, 1). Retry-After counts where it is longer, within its bound, and is spread upwards.
    """
    if attempts > len(WAITS_S):
        return None
    wait = WAITS_S[attempts - 1] * (LEAST_SPREAD + draw)
    return wait if after_s is None else max(wait, min(max(after_s, 0.0), MOST_AFTER_S) * (1 + draw / 5))
