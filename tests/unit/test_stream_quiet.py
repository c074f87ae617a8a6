"""aiokafka's log: a line repeated while a broker is away is written once in a while, others always."""

import logging

import gateway.stream  # noqa: F401 - importing it applies the rules
from gateway.stream.quiet import Seldom


def line(message: str) -> logging.LogRecord:
    return logging.LogRecord("aiokafka.client", logging.ERROR, __file__, 1, message, ("a",), None)


def test_a_repeated_line_is_dropped_and_another_is_not() -> None:
    seldom = Seldom()
    assert [seldom.filter(line(text)) for text in ("no %s", "no %s", "yes %s", "no %s")] == [True, False, True, False]


def test_requests_are_never_quoted() -> None:
    for name in ("aiokafka", "aiokafka.conn", "aiokafka.producer.producer"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
