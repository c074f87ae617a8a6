"""What aiokafka may write to the log.

Its debug lines quote whole requests, with numbers and texts in them, so they stay off whatever the root logger's level
is; and while a broker is away it repeats the same lines dozens of times a second, of which one in ten seconds is kept.
"""

import logging
import time

REPEAT_S = 10.0
TALKATIVE = (
    "aiokafka",
    "aiokafka.client",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)


class Seldom(logging.Filter):
    """Lets a line through when the same template was not let through in the last REPEAT_S."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        now, template = time.monotonic(), str(record.msg)
        if now - self._last.get(template, -REPEAT_S) < REPEAT_S:
            return False
        self._last[template] = now
        return True


def quieten() -> None:
    """Apply both rules; called once when the room is imported."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    for name in TALKATIVE:
        logging.getLogger(name).addFilter(Seldom())
