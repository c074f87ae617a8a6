"""Scopes of breakers: whose campaign one stops, and by whose pack it is judged."""

import re

import pytest

from gateway.contract.registry import SCOPE, Sender
from gateway.contract.scope import Part, of_sender, part, whoever
from gateway.records.weighing import where_of
from gateway.rules.breaker import in_force
from gateway.rules.pack import load

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
CN = load("cn")


@pytest.mark.parametrize(
    ("scope", "found", "wide"),
    [
        ("campaign:acme/double11", Part("campaign", "double11", "acme"), "campaign:double11"),
        ("list_source:acme/fair/2019", Part("list_source", "fair/2019", "acme"), "list_source:fair/2019"),
        ("campaign:double11", Part("campaign", "double11"), None),
        ("campaign:2026/spring", Part("campaign", "2026/spring"), None),
        ("campaign:acme/", Part("campaign", "acme/"), None),
        ("sender:acme", Part("sender", "acme"), None),
        ("port:10690001", Part("port", "10690001"), None),
        ("all", Part("all", ""), None),
    ],
)
def test_a_scope_is_one_senders_or_everybodys(scope: str, found: Part, wide: str | None) -> None:
    assert part(scope, {"acme"}) == found
    assert whoever(scope) == wide or found.sender is None
    assert re.fullmatch(SCOPE, scope)


def test_what_opens_by_itself_carries_its_sender() -> None:
    scope = of_sender("campaign", "acme", "x" * 128)
    assert re.fullmatch(SCOPE, scope)
    assert part(scope) == Part("campaign", "x" * 128, "acme")
    assert where_of(scope) == {"campaign": ["x" * 128], "sender": ["acme"]}
    assert where_of("campaign:2026/spring", {"acme"}) == {"campaign": ["2026/spring"]}


def test_a_campaign_is_judged_by_its_senders_pack_and_everybodys_by_all() -> None:
    other = ACME.model_copy(update={"id": "bolt", "pack": "xx", "service_port": "1", "marketing_port": "2"})
    packs = {"cn": CN, "xx": CN}
    lines = in_force((ACME, other), packs)
    assert len(lines("campaign:acme/double11")) == 1
    assert len(lines("campaign:double11")) == 2
    assert len(lines("sender:bolt")) == 1
    assert len(lines("campaign:gone/double11")) == 2
