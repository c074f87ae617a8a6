"""A plan spells the keys, scopes and fields that the guard reads."""

import pytest

from gateway.contract.decision import Basis, Class
from gateway.contract.registry import Sender
from gateway.rules import pack as packs
from gateway.rules.pack import Pack
from gateway.rules.plan import Window, plan

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


def _spelled(windows: tuple[Window, ...]) -> list[tuple[str, int, int, bool]]:
    return [(window.field, window.limit, window.period_ms, window.calendar) for window in windows]


def test_marketing_rests_on_the_purpose_or_its_topic(cn: Pack) -> None:
    made = plan(cn, ACME, "marketing.promotion")
    assert (made.cls, made.basis, made.pack) == (Class.MARKETING, Basis.CONSENT, cn.version)
    assert made.consents == ("acme/marketing.promotion", "acme/marketing")
    assert made.relationships == ()
    assert made.topics == ("marketing.promotion", "marketing")
    assert made.preferences == ("acme", "*")
    assert set(made.scopes) == {
        "*", "acme", "*#marketing", "acme#marketing",
        "*/marketing.promotion", "*/marketing", "acme/marketing.promotion", "acme/marketing",
    }  # fmt: skip
    assert _spelled(made.windows) == [("M/acme", 1, DAY_MS, False), ("M", 3, DAY_MS, True)]
    assert made.weekly_field == "M/acme"
    assert (made.quiet, made.zone, made.same_text_ms) == (True, "Asia/Shanghai", 0)


def test_a_notice_rests_on_a_relationship_and_shares_its_window(cn: Pack) -> None:
    made = plan(cn, ACME, "transaction.shipping")
    assert (made.basis, made.relationships, made.consents) == (Basis.RELATIONSHIP, ("acme/order",), ())
    assert _spelled(made.windows) == [("T/acme", 10, DAY_MS, False)]
    assert made.same_text_ms == 30_000
    assert made.weekly_field is None
    assert made.windows[0] == plan(cn, ACME, "service.notice").windows[0]


def test_own_windows_share_one_log(cn: Pack) -> None:
    made = plan(cn, ACME, "verification.code")
    assert _spelled(made.windows) == [
        ("verification.code/acme", 1, 60_000, False),
        ("verification.code/acme", 5, 3_600_000, False),
        ("verification.code/acme", 10, DAY_MS, False),
    ]
    assert [window.name for window in made.windows] == [f"verification.code {n}" for n in ("1/1m", "5/1h", "10/24h")]


def test_the_one_question_is_stopped_by_a_refusal_of_marketing(cn: Pack) -> None:
    made = plan(cn, ACME, "consent.preferences")
    assert made.basis is Basis.RELATIONSHIP
    assert made.relationships == ("acme/order", "acme/booking", "acme/service", "acme/membership")
    assert made.consents == ("acme/declared",)
    assert {"acme#consent", "acme#marketing", "*#marketing"} <= set(made.scopes)
    assert _spelled(made.windows) == [("consent.preferences/acme", 1, 3650 * DAY_MS, False)]


def test_what_a_request_permits_needs_no_state(cn: Pack) -> None:
    for purpose in ("invite.restock_requested", "consent.opt_out_ack", "consent.confirm", "verification.code"):
        made = plan(cn, ACME, purpose)
        assert (made.consents, made.relationships) == ((), ())
        assert cn.purposes[purpose].single_use
        assert made.weekly_field is None


def test_plans_are_made_once_and_kept_apart_by_sender(cn: Pack) -> None:
    other = ACME.model_copy(update={"id": "birch"})
    assert plan(cn, ACME, "service.notice") is plan(cn, ACME, "service.notice")
    assert plan(cn, other, "service.notice").relationships == ("birch/service",)
    with pytest.raises(KeyError):
        plan(cn, ACME, "service.other")


def test_every_field_of_a_sender_is_distinct_from_every_other_window(cn: Pack) -> None:
    shapes: dict[str, set[str]] = {}
    for name in cn.purposes:
        for window in plan(cn, ACME, name).windows:
            shapes.setdefault(window.field, set()).add(window.name.split()[0])
    assert all(len(owners) == 1 for owners in shapes.values())
