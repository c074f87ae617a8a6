"""The purposes document and the trace's rules say what is enforced, in both languages, each with a source."""

import orjson
import pytest

from gateway.contract.registry import Sender
from gateway.rules import pack as packs
from gateway.rules.describe import describe
from gateway.rules.explain import rules_of
from gateway.rules.pack import Pack
from gateway.rules.plan import plan

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
ORDER = [
    "client",
    "purpose",
    "recipient",
    "port",
    "content",
    "expiry",
    "quiet_hours",
    "breaker",
    "quota",
    "suppression",
    "basis",
    "preference",
    "windows",
    "same_text",
]


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


def test_the_document_has_every_purpose_with_what_a_developer_needs(cn: Pack) -> None:
    document = orjson.loads(orjson.dumps(describe(cn)))
    assert document["pack"] == cn.version
    assert "lawyer" in document["notice"]
    assert "律师" in document["notice_zh"]
    assert [row["purpose"] for row in document["purposes"]] == list(cn.purposes)
    for row in document["purposes"]:
        assert row["example"]
        assert row["title"].isascii()
        assert not row["title_zh"].isascii()
        assert row["source"]["title"]
        assert row["source"]["title_zh"]
        assert (row["hours"] is not None) is cn.purposes[row["purpose"]].quiet
        names = [window.name for window in plan(cn, ACME, row["purpose"]).windows]
        assert [window["name"] for window in row["windows"]] == names


def test_a_purpose_in_full(cn: Pack) -> None:
    row = next(row for row in describe(cn)["purposes"] if row["purpose"] == "marketing.promotion")
    assert (row["class"], row["basis"], row["port"], row["refusal_text"]) == (
        "marketing",
        "consent",
        "marketing",
        "required",
    )
    assert row["hours"] == {"start": "08:00", "end": "20:00", "zone": "Asia/Shanghai"}
    assert row["consent_topics"] == ["marketing.promotion", "marketing"]
    assert [(w["limit"], w["period_s"], w["calendar"], w["counted_per"]) for w in row["windows"]] == [
        (1, 86_400, False, "recipient and sender"),
        (3, 86_400, True, "recipient, over all senders"),
    ]
    assert row["source"]["kind"] == "law"
    assert "1033" in row["source"]["title"]


def test_a_trace_lists_every_rule_in_order_with_its_source(cn: Pack) -> None:
    for purpose in cn.purposes.values():
        rows = rules_of(purpose, cn)
        assert list(dict.fromkeys(row.name for row in rows)) == [
            name for name in ORDER if name != "windows" or purpose.windows
        ]
        assert all(row.source and row.source_zh and row.title and row.title_zh for row in rows)
        windows = [row.window for row in rows if row.name == "windows"]
        assert windows == [window.name for window in plan(cn, ACME, purpose.name).windows]


def test_a_trace_says_which_rules_do_not_apply(cn: Pack) -> None:
    def spared(purpose: str) -> set[str]:
        return {row.name for row in rules_of(cn.purposes[purpose], cn) if not row.applies}

    assert spared("verification.code") == {"quiet_hours", "preference", "same_text"}
    assert spared("transaction.order") == {"quiet_hours", "preference"}
    assert spared("service.notice") == set()
    assert spared("marketing.promotion") == {"same_text"}


def test_the_basis_of_marketing_is_the_law(cn: Pack) -> None:
    basis = next(row for row in rules_of(cn.purposes["membership.birthday"], cn) if row.name == "basis")
    assert "Civil Code" in basis.source
    assert "民法典" in basis.source_zh
