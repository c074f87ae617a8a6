"""Statuses: whatever the order, however often, the same row; and never backwards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.decision import Basis, Cause, Class, Status
from gateway.contract.ids import new_id
from gateway.contract.wire import Accepted, Receipt, Result
from gateway.records import timeline
from gateway.settle.buffer import Statement
from gateway.settle.fold import LATE_MS, Fold
from gateway.settle.origin import origin_of
from gateway.settle.status import MAX_TIMELINE, RANK_FINAL, RECEIPT_MISSING, Row

T0 = 1_760_000_000_000
DAY = 86_400_000
ID = new_id(3, T0)


def acceptance(attempt: int = 1, *, held: bool = False, at: int = T0, parts: int = 1, entry: int = 7) -> Statement:
    record = Accepted(
        id=ID, attempt=attempt, client="demo", sender="acme", purpose="marketing.promotion", cls=Class.MARKETING,
        subject="0a" * 16, to="+8613800000000", text="【Acme】x", parts=parts, port="10690002", pack="cn@1",
        basis=Basis.CONSENT, entry=entry, accepted_at=T0, expires_at=T0 + 1,
    )  # fmt: skip
    return Statement("accepted", record, at, held, origin_of(record))


def result(outcome: str, attempt: int = 1, **more: object) -> Statement:
    fields = {"carrier": "sim", "at": T0 + 100 * attempt, "cls": Class.MARKETING, "id": ID, **more}
    return Statement("result", Result(attempt=attempt, outcome=outcome, **fields))


def receipt(status: Status, **more: object) -> Statement:
    fields = {"carrier": "sim", "carrier_id": "c1", "raw_status": status.value, "at": T0 + 900, "received_at": T0 + 950}
    return Statement("receipt", Receipt(status=status, **{**fields, **more}))


def fold(*said: Statement, row: Row | None = None) -> Row:
    row = row or Row(ID)
    Fold({ID: row}).take(ID, said)
    return row


def seen(row: Row) -> tuple[object, ...]:
    """Everything of a row that does not say when we happened to learn it."""
    fields = [getattr(row, name) for name in Row.__slots__ if name not in ("timeline", "settled_at", "filled", "tried")]
    return (*fields, row.ordered())


def stored(row: Row) -> Row:
    """The row as PostgreSQL would give it back."""
    copy = Row(row.id)
    for name in Row.__slots__:
        if name not in ("timeline", "filled", "tried", "sent_at"):
            setattr(copy, name, getattr(row, name))
    copy.timeline = timeline.decode(timeline.encode(row.ordered()))
    copy.restore()
    return copy


SUBMITTED = result("submitted", carrier_id="00C1", code="0")
WITHDRAWN = result("cancelled", code="unavailable", carrier="")
DOUBTFUL = result("doubtful", code="answer.lost")
UNSEEN = receipt(Status.UNKNOWN, missing="unseen", carrier_id="", raw_status="NOTFOUND", at=T0 + 30_000)
NEVER = receipt(Status.UNKNOWN, missing="never", carrier_id="", raw_status="NOTFOUND", at=T0 + 1_800_000)
LIVES = {
    "asked": ([acceptance(), DOUBTFUL, UNSEEN, NEVER, SUBMITTED, receipt(Status.DELIVERED)], Status.DELIVERED),
    "never seen": ([acceptance(), DOUBTFUL, UNSEEN, NEVER], Status.UNKNOWN),
    "plain": ([acceptance(), SUBMITTED, receipt(Status.DELIVERED)], Status.DELIVERED),
    "enroute first": (
        [acceptance(), SUBMITTED, receipt(Status.SENT, at=T0 + 500), receipt(Status.DELIVERED)],
        Status.DELIVERED,
    ),
    "held": (
        [acceptance(held=True, at=T0, entry=1), acceptance(at=T0 + 50, entry=2), SUBMITTED, receipt(Status.EXPIRED)],
        Status.EXPIRED,
    ),
    "retried": (
        [
            acceptance(),
            result("retrying", code="8", cause=Cause.FLOW),
            acceptance(2, held=True, at=T0 + 150),
            acceptance(2, at=T0 + 180),
            result("submitted", 2, carrier_id="c2", carrier="other"),
            receipt(Status.DELIVERED, carrier="other", carrier_id="c2"),
        ],
        Status.DELIVERED,
    ),
    "parked": ([acceptance(), result("parked"), acceptance(2, held=True, at=T0 + 120)], Status.HELD),
    "refused": ([acceptance(), result("rejected", code="KEYWORD", cause=Cause.CONTENT)], Status.REJECTED),
    "doubtful, then known": ([acceptance(), result("doubtful"), receipt(Status.DELIVERED)], Status.DELIVERED),
    "doubtful, yet sent": ([acceptance(), result("doubtful", carrier=""), SUBMITTED], Status.SENT),
    "unknown, then known": (
        [acceptance(), SUBMITTED, receipt(Status.UNKNOWN, at=T0 + 800), receipt(Status.UNDELIVERED)],
        Status.UNDELIVERED,
    ),
    "three parts": (
        [acceptance(parts=3), result("submitted", carrier_id="c1", parts=3)]
        + [receipt(Status.DELIVERED, part=part, raw_code=f"{part}", at=T0 + 900 + part) for part in (1, 2, 3)],
        Status.DELIVERED,
    ),
    "a part missing": (
        [acceptance(parts=3), SUBMITTED] + [receipt(Status.DELIVERED, part=part) for part in (1, 3)],
        Status.SENT,
    ),
    "a part failed": (
        [acceptance(parts=2), SUBMITTED, receipt(Status.DELIVERED, part=1), receipt(Status.UNDELIVERED, part=2)],
        Status.UNDELIVERED,
    ),
    "withdrawn": ([acceptance(), WITHDRAWN], Status.CANCELLED),
    "withdrawn, then accepted again": (
        [acceptance(), WITHDRAWN, acceptance(at=T0 + 50), SUBMITTED, receipt(Status.DELIVERED)],
        Status.DELIVERED,
    ),
    "withdrawn, then refused for good": (
        [acceptance(), WITHDRAWN, result("cancelled", code="suppressed", at=T0 + 300)],
        Status.CANCELLED,
    ),
    "withdrawn, then in doubt": ([acceptance(), WITHDRAWN, result("doubtful", code="owner.lost")], Status.UNKNOWN),
    "only a receipt": ([receipt(Status.DELIVERED)], Status.DELIVERED),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
def test_each_life_ends_where_it_should(name: str) -> None:
    said, status = LIVES[name]
    assert fold(*said).status is status


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_order_and_any_repetition_ends_in_the_same_row(data: st.DataObject) -> None:
    said, _ = LIVES[data.draw(st.sampled_from(sorted(LIVES)))]
    repeated = data.draw(st.lists(st.sampled_from(said), max_size=8))
    order = data.draw(st.permutations([*said, *repeated]))
    cuts = data.draw(st.sets(st.integers(0, len(order)), max_size=4))
    row = Row(ID)
    for index, one in enumerate(order):
        if index in cuts and row.timeline:
            row = stored(row)
        fold(one, row=row)
    assert seen(row) == seen(fold(*said))
    assert seen(stored(row)) == seen(row)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_row_never_moves_back_and_a_final_status_stays(data: st.DataObject) -> None:
    everything = [one for said, _ in LIVES.values() for one in said]
    row = Row(ID)
    for one in data.draw(st.lists(st.sampled_from(everything), max_size=25)):
        before = (row.rank, row.status, row.code)
        fold(one, row=row)
        assert row.rank >= before[0]
        if before[0] == RANK_FINAL:
            assert (row.rank, row.status, row.code) == before


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_counts_do_not_depend_on_how_statements_were_cut_into_flushes(data: st.DataObject) -> None:
    said, _ = LIVES[data.draw(st.sampled_from(sorted(LIVES)))]
    order = data.draw(st.permutations(said))
    row, total = Row(ID), Fold({}).counts
    for one in order:
        step = Fold({ID: row})
        step.take(ID, [one])
        total.update(step.counts)
    whole = Fold({})
    whole.take(ID, order)
    assert {key: n for key, n in total.items() if n} == {key: n for key, n in whole.counts.items() if n}


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ([acceptance(), SUBMITTED, receipt(Status.DELIVERED)], 1),
        ([acceptance(parts=3), SUBMITTED, receipt(Status.DELIVERED)], 3),
        ([acceptance(parts=62), receipt(Status.DELIVERED)], 62),
        ([receipt(Status.DELIVERED), acceptance(parts=3)], 3),
        ([acceptance(parts=3), SUBMITTED, receipt(Status.DELIVERED, part=2)], 1),
        ([acceptance(parts=3), receipt(Status.DELIVERED, part=2), receipt(Status.DELIVERED)], 3),
        ([acceptance(parts=3), SUBMITTED, receipt(Status.UNDELIVERED)], 0),
        ([acceptance(parts=3), SUBMITTED, receipt(Status.UNDELIVERED), receipt(Status.DELIVERED)], 0),
        ([receipt(Status.DELIVERED)], 0),
    ],
)
def test_a_whole_message_delivered_is_all_of_its_parts(said: list[Statement], parts: int) -> None:
    row = fold(*said)
    assert row.parts_delivered.bit_count() == parts
    assert stored(row).parts_delivered.bit_count() == parts


def silence(at: int = T0 + 3 * DAY, sent_by: int = T0 + DAY) -> Statement:
    return Statement("silence", sent_by, at)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ([acceptance(), SUBMITTED], Status.UNKNOWN, RECEIPT_MISSING),
        ([acceptance(), receipt(Status.SENT)], Status.UNKNOWN, RECEIPT_MISSING),
        ([acceptance(parts=2), SUBMITTED, receipt(Status.DELIVERED, part=1)], Status.UNKNOWN, RECEIPT_MISSING),
        ([acceptance(), result("submitted", at=T0 + DAY + 1)], Status.SENT, None),
        ([acceptance()], Status.QUEUED, None),
        ([acceptance(held=True)], Status.HELD, None),
        ([acceptance(), result("doubtful", code="answer.lost")], Status.UNKNOWN, "answer.lost"),
        ([acceptance(), SUBMITTED, receipt(Status.DELIVERED)], Status.DELIVERED, "delivered"),
        ([acceptance(), SUBMITTED, receipt(Status.UNKNOWN)], Status.UNKNOWN, "unknown"),
        ([], Status.QUEUED, None),
    ],
)
def test_silence_makes_unknown_only_what_was_sent(said: list[Statement], status: Status, code: str | None) -> None:
    row = fold(*said)
    before = seen(row)
    fold(silence(), silence(), row=row)
    assert (row.status, row.code) == (status, code)
    assert (seen(row) == before) is (code != RECEIPT_MISSING)
    assert seen(stored(row)) == seen(row)


@pytest.mark.parametrize(
    ("later", "status"),
    [
        (receipt(Status.DELIVERED), Status.DELIVERED),
        (receipt(Status.UNDELIVERED), Status.UNDELIVERED),
        (receipt(Status.SENT), Status.UNKNOWN),
        (SUBMITTED, Status.UNKNOWN),
    ],
)
def test_a_receipt_that_comes_after_all_replaces_the_silence_and_counts_once(later: Statement, status: Status) -> None:
    row, total = Row(ID), Fold({}).counts
    for one in (acceptance(), SUBMITTED, silence(), later, later):
        step = Fold({ID: row})
        step.take(ID, [one])
        total.update(step.counts)
    assert row.status is status
    counted = {(key[3], n) for key, n in total.items() if n}
    assert counted == {(Status.QUEUED, 1), (Status.SENT, 1), (status, 1)}


def test_a_message_sent_long_after_its_acceptance_is_remembered_by_its_own_time() -> None:
    step = Fold({})
    step.take(ID, [acceptance(), result("submitted", at=T0 + LATE_MS)])
    assert step.late == [(ID, T0 + LATE_MS)]
    for said in (SUBMITTED, receipt(Status.DELIVERED, received_at=T0 + LATE_MS)):
        step = Fold({})
        step.take(ID, [acceptance(), said])
        assert step.late == []


def test_a_late_sent_changes_nothing_but_the_timeline() -> None:
    row = fold(acceptance(), receipt(Status.DELIVERED))
    assert fold(SUBMITTED, row=row).status is Status.DELIVERED
    assert [entry.status for entry in row.ordered()] == [Status.QUEUED, Status.SENT, Status.DELIVERED]


def test_the_raw_code_cause_and_word_are_kept() -> None:
    row = fold(
        acceptance(), receipt(Status.UNDELIVERED, raw_status="UNDELIV", raw_code="MK:0001", cause=Cause.DEAD_NUMBER)
    )
    assert (row.code, row.cause) == ("MK:0001", Cause.DEAD_NUMBER)
    assert row.timeline[-1].raw == "UNDELIV"
    assert fold(receipt(Status.UNDELIVERED, raw_status="BLACK")).code == "BLACK"


@pytest.mark.parametrize(
    ("said", "owed"),
    [
        ([acceptance(), result("rejected")], True),
        ([acceptance(), result("cancelled", code="consent.withdrawn")], True),
        ([acceptance(), result("expired")], True),
        ([acceptance(), WITHDRAWN], False),
        ([acceptance(), WITHDRAWN, SUBMITTED, receipt(Status.REJECTED)], True),
        ([acceptance(), SUBMITTED, receipt(Status.REJECTED)], True),
        ([acceptance(), SUBMITTED, receipt(Status.EXPIRED)], False),
        ([acceptance(), SUBMITTED, receipt(Status.UNDELIVERED)], False),
        ([acceptance(), result("doubtful")], False),
    ],
)
def test_slots_are_given_back_once_and_only_for_what_was_not_sent(said: list[Statement], owed: bool) -> None:
    row, refunds = Row(ID), []
    for one in [*said, *said]:
        step = Fold({ID: row})
        step.take(ID, [one])
        refunds += step.refunds
    assert refunds == ([(ID, b"\x0a" * 16)] if owed else [])


@pytest.mark.parametrize("said", [[acceptance(), WITHDRAWN], [WITHDRAWN, acceptance()]])
def test_what_was_withdrawn_gives_its_long_windows_back_once(said: list[Statement]) -> None:
    """Its other windows were given back when it was voided."""
    row, given = Row(ID), []
    for one in [*said, *said, SUBMITTED, WITHDRAWN]:
        step = Fold({ID: row})
        step.take(ID, [one])
        given += step.withdrawn
        assert step.refunds == []
    assert given == [(ID, b"\x0a" * 16, T0 + 100)]
    whole = Fold({})
    whole.take(ID, said)
    assert whole.withdrawn == given


def test_a_refusal_known_before_its_message_is_refunded_when_the_message_is_read() -> None:
    first = Fold({})
    first.take(ID, [result("rejected")])
    assert first.refunds == []
    second = Fold({ID: stored(first.inserted[0])})
    second.take(ID, [acceptance()])
    assert second.refunds == [(ID, b"\x0a" * 16)]


@pytest.mark.parametrize(
    ("said", "status", "code", "owed"),
    [
        ([DOUBTFUL, UNSEEN], Status.UNKNOWN, "carrier.not_found", False),
        ([DOUBTFUL, UNSEEN, NEVER], Status.UNKNOWN, "carrier.not_found", True),
        ([DOUBTFUL, NEVER, receipt(Status.DELIVERED)], Status.DELIVERED, "delivered", None),
        ([SUBMITTED, NEVER], Status.SENT, "0", False),
        ([SUBMITTED, silence(), NEVER], Status.UNKNOWN, RECEIPT_MISSING, False),
        ([DOUBTFUL, SUBMITTED, receipt(Status.DELIVERED)], Status.DELIVERED, "delivered", False),
    ],
)
def test_a_carrier_that_knows_no_such_message_ends_only_what_nobody_knows(
    said: list[Statement], status: Status, code: str, owed: bool | None
) -> None:
    row, given = Row(ID), []
    for one in [acceptance(), *said, said[-1]]:
        step = Fold({ID: row}, asked={"sim"})
        step.take(ID, [one])
        given += step.refunds
    assert (row.status, row.code) == (status, code)
    if owed is not None:
        assert given == ([(ID, b"\x0a" * 16)] if owed else [])
    whole = fold(acceptance(), *said)
    assert (whole.status, whole.code) == (status, code)


def test_what_nobody_knows_is_to_be_asked_about_once_and_only_where_the_carrier_can_be_asked() -> None:
    row, doubts = Row(ID), []
    for one in (DOUBTFUL, DOUBTFUL, acceptance(), UNSEEN, acceptance()):
        step = Fold({ID: row}, asked={"sim"})
        step.take(ID, [one])
        doubts += step.doubts
    assert doubts == [(ID, "sim", "marketing", T0 + 100, T0 + 100 + 30_000)]
    other = Fold({}, asked={"http"})
    other.take(ID, [acceptance(), DOUBTFUL])
    assert other.doubts == []


def test_a_carriers_blacklist_suppresses_the_class_of_the_sender() -> None:
    step = Fold({})
    step.take(ID, [acceptance(), receipt(Status.UNDELIVERED, raw_status="TDBLACK", cause=Cause.CARRIER_OPT_OUT)])
    assert step.suppressions == [(ID, b"\x0a" * 16, "acme#marketing", T0 + 950)]


def test_a_timeline_is_bounded_and_the_status_goes_on() -> None:
    row = fold(acceptance(), *(result("retrying", n) for n in range(1, 2 * MAX_TIMELINE)))
    assert len(row.timeline) == MAX_TIMELINE
    assert fold(receipt(Status.DELIVERED), row=row).status is Status.DELIVERED
