"""Names, settings and where keys go."""

import os

from gateway.contract.decision import Class
from gateway.stream.topics import Topics, partition_by_class, partition_of, settings_of

HOUR_MS = 3_600_000


def test_every_name_carries_the_prefix_and_its_label_does_not() -> None:
    topics = Topics("eu.")
    assert len(set(topics.all())) == len(Class) + 5
    assert {topics.label(name) for name in topics.all()} == set(Topics().all())
    assert topics.messages(Class.CONSENT) == "eu.messages.consent"
    assert topics.deliver_group(Class.MARKETING) == "eu.deliver.marketing"


def test_every_group_that_submits_has_its_topic() -> None:
    topics = Topics()
    assert set(topics.groups().values()) == {topics.messages(cls) for cls in Class} | {topics.held}


def test_a_backlog_has_a_connection_of_its_own() -> None:
    topics = Topics()
    assert topics.bulk() == {topics.messages(Class.MARKETING), topics.held}


def test_settings_are_explicit_and_long_enough() -> None:
    for label in Topics().all():
        settings = settings_of(label, 3)
        assert int(settings["retention.ms"]) >= 48 * HOUR_MS
        assert settings["min.insync.replicas"] == "2"
    for label in ("messages.marketing", "messages.held"):
        assert int(settings_of(label, 3)["retention.ms"]) < 7 * 24 * HOUR_MS
    assert settings_of("dead", 1)["min.insync.replicas"] == "1"


def test_a_key_keeps_its_partition_and_keys_spread() -> None:
    keys = [os.urandom(16) for _ in range(4000)]
    for count in (1, 3, 4, 12):
        places = [partition_of(key, count) for key in keys]
        assert places == [partition_of(key, count) for key in keys]
        assert min(places.count(number) for number in range(count)) > 4000 / count * 0.75
    assert partition_of(b"0123456789abcdef", 12) == 3  # moves only if the hash does, which would break every order


def test_classes_share_no_partition_of_results_while_there_are_enough() -> None:
    keys = [os.urandom(16) for _ in range(500)]
    for count in (4, 6, 12):
        used = {cls: {partition_by_class(cls, key, count) for key in keys} for cls in Class}
        assert set().union(*used.values()) == set(range(count))
        assert sum(len(places) for places in used.values()) == count
    assert {partition_by_class(cls, b"k", 3) for cls in Class} <= {0, 1, 2}
