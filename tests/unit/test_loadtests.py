"""What the bench and the load test judge by: figures, shares, quantiles, parsed counters, seeded numbers."""

import json
import math
import os
import re
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from gateway.contract.consent import EventKind, State
from gateway.contract.message import SendRequest
from gateway.ledger import events
from gateway.ledger.keys import Keys
from gateway.ledger.rows import decode_state
from gateway.ledger.state import apply
from gateway.rules import numbers
from gateway.rules.pack import load
from loadtests import bench, ledger, people
from loadtests.appends import Acts
from loadtests.figures import Figure, failed, ratio, row, shown, table
from loadtests.generator import BrokenRun, Outcome, length_of, post
from loadtests.meter import TICKS_S, Meter, stat_cpu_s
from loadtests.traffic import EXPECTED, GROUPS, People, Plan, Tally, seconds_of

RATE, SECONDS = 1000.0, 30.0


# --- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", 3.2, "x", 3.3, gates=True), "pass (gate)"),
        (Figure("a", 3.31, "x", 3.3, gates=True), "FAIL (gate)"),
        (Figure("a", 41.0, "ms", 40), "FAIL"),
        (Figure("a", 4000.0, "/s", 4000, least=True), "pass"),
        (Figure("a", 3999.0, "/s", 4000, least=True), "FAIL"),
        (Figure("a", 12.0, "µs"), ""),
        (Figure("a", math.nan, "µs"), "FAIL"),
        (Figure("a", math.nan, "x", 3.3, gates=True), "FAIL (gate)"),
    ],
)
def test_a_figure_says_whether_its_target_is_reached(figure: Figure, verdict: str) -> None:
    assert row(figure)[3] == verdict


def test_only_gates_fail_a_run() -> None:
    missed = Figure("ratio", 4.0, "x", 3.3, gates=True)
    assert failed([Figure("slow", 90.0, "ms", 40), missed, Figure("fine", 1.0, "x", 3.3, gates=True)]) == [missed]


def test_the_table_lines_up_and_carries_every_figure() -> None:
    lines = table([Figure("short", 1.234, "µs"), Figure("a longer one", 1_234_567.0, "/s", 5, note="how"), MISSED])
    assert len({len(line) for line in lines}) == 1
    assert [line.count("|") for line in lines] == [5] * 5
    assert "1,234,567 /s" in lines[3]
    assert "≤ 5 /s" in lines[3]
    assert "a longer one (how)" in lines[3]
    assert "not measured" in lines[4]
    assert set(lines[1]) == set("|-:")


MISSED = Figure("nothing", math.nan, "ms", 1)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.1234, "s", "0.123 s"), (28.04, "µs", "28 µs"), (3.0, "x", "3 x"), (12345.6, "", "12,346"), (0.0, "", "0")],
)
def test_numbers_are_shown_with_what_can_be_trusted(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_a_ratio_is_of_neighbours_so_that_a_slow_moment_cancels() -> None:
    assert ratio([30.0, 300.0, 33.0], [10.0, 100.0, 11.0]) == 3.0


def test_results_are_kept_newest_first_under_their_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text("# Results\n\nHow they are made.\n")
    monkeypatch.setattr(bench, "RESULTS", file)
    bench.keep("## first\n\n| a |\n")
    bench.keep("## second\n\n| b |\n")
    assert file.read_text() == "# Results\n\nHow they are made.\n\n## second\n\n| b |\n\n## first\n\n| a |\n"


def test_the_ledgers_figures_take_the_place_of_those_before(tmp_path: Path) -> None:
    page = tmp_path / "ledger.md"
    page.write_text("# The ledger\n\n## Figures\n\nHow they are made.\n\n## More\n\nWords.\n")
    ledger.keep("## first\n\n| a |\n", page)
    ledger.keep("## second\n\n| b |\n", page)
    assert page.read_text() == (
        "# The ledger\n\n## Figures\n\nHow they are made.\n\n### second\n\n| b |\n\n## More\n\nWords.\n"
    )


def test_the_bench_acts_are_of_every_kind_and_can_be_recorded() -> None:
    keys = Keys(b"m" * 32, b"p" * 32)
    acts = [*islice(Acts(keys, 1000), 200), *islice(Acts(keys, 1000, seed=3), 200)]
    assert {act.kind for act in acts} == {EventKind.GRANT, EventKind.WITHDRAWAL, EventKind.RELATIONSHIP}
    assert len({act.event_id for act in acts}) == len(acts)
    assert len({act.subject for act in acts}) > 300
    assert all(isinstance(apply(None, act, 1), State) and events.body(act) for act in acts)


# --- measuring -----------------------------------------------------------------------------------------------------


def test_cpu_is_read_behind_any_name_and_counts_ended_children() -> None:
    ticks = [100, 50, 20, 10]
    fields = ["S", *["1"] * 10, *map(str, ticks), *["0"] * 20]
    assert stat_cpu_s(f"12 (a) b (c) {' '.join(fields)}\n") == sum(ticks) / TICKS_S


def test_a_meter_sees_work_and_nothing_else() -> None:
    meter = Meter({"me": os.getpid()})
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert 0.15 <= meter.spent()["me"] <= 1.0


def test_quantiles_of_answers() -> None:
    outcome = Outcome(latencies=[at / 1000 for at in range(1000, 0, -1)])
    assert (outcome.quantile(0.5), outcome.quantile(0.99), outcome.requests) == (0.501, 0.991, 1000)
    assert Outcome().quantile(0.99) == 0.0


def test_an_answer_without_a_length_ends_the_run() -> None:
    assert length_of(b"HTTP/1.1 202 Accepted\r\ncontent-type: x\r\nContent-Length: 150") == 150
    with pytest.raises(BrokenRun):
        length_of(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked")


# --- the bench's people and messages -------------------------------------------------------------------------------


def _body(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    return body


def test_bench_messages_are_whole_requests_and_meet_no_window() -> None:
    messages = people.Messages(50)
    bodies = [json.loads(_body(next(messages.single(keyed=True)))) for _ in range(20)]
    batch = json.loads(_body(next(messages.batches(480))))["messages"]
    sent = [*bodies, *batch]
    for body in sent:
        SendRequest.model_validate(body)
    assert messages.left == 0
    assert max(Counter(body["to"] for body in sent).values()) == people.ROUNDS
    assert len({(body["to"], body["text"]) for body in sent}) == 500
    assert len({body["idempotency_key"] for body in bodies}) == 20
    with pytest.raises(RuntimeError, match="seed more"):
        next(messages.single(keyed=False))


def test_bench_people_are_dense_in_seq_and_hold_what_permits_the_messages() -> None:
    consents = list(people.consenting(3))
    orders = list(people.ordering(b"p" * 32, 3, 3))
    assert [found[1] for found in consents + orders] == [1, 2, 3, 4, 5, 6]
    assert all(decode_state(found[3]).consents.keys() == {"acme/marketing"} for found in consents)
    assert all(decode_state(found[3]).relationships.keys() == {"acme/order"} for found in orders)
    assert numbers.parse(people.number(0)) == people.number(0)


def test_a_request_is_http() -> None:
    assert post("/x", b"{}", "k").startswith(b"POST /x HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer k\r\n")


# --- the load test -------------------------------------------------------------------------------------------------


@pytest.fixture
def plan() -> Plan:
    return Plan(People.of(RATE, SECONDS, 7), "run")


def test_shares_are_exact_in_every_hundred(plan: Plan) -> None:
    for _ in range(30):
        kinds = Counter(plan.message()[0] for _ in range(100))
        assert kinds == {"permitted": 97, "stranger": 2, "opted_out": 1}


def test_planned_traffic_keeps_the_windows_and_the_contract(plan: Plan) -> None:
    pack = load("cn")
    messages = [plan.message() for _ in range(int(RATE * SECONDS * 3.45))]
    permitted = [body for kind, body in messages if kind == "permitted"]
    by_class = {
        cls: Counter(body["to"] for body in permitted if pack.purposes[body["purpose"]].cls == cls)
        for cls in ("verification", "transactional", "marketing")
    }
    assert all(by_class.values())
    assert max(by_class["transactional"].values()) <= 10
    assert max(by_class["marketing"].values()) == 1
    assert max(by_class["verification"].values()) == 1
    assert len({body["idempotency_key"] for _, body in messages}) == len(messages)
    assert len({body["text"] for body in permitted if body["purpose"] in pack.purposes}) > 0.9 * len(permitted)
    for _, body in messages[:500]:
        SendRequest.model_validate(body)
        assert numbers.parse(body["to"]) == body["to"]


def test_every_kind_of_refused_message_comes_in_both_classes(plan: Plan) -> None:
    seen = {(kind, body["purpose"].partition(".")[0]) for kind, body in (plan.message() for _ in range(2000))}
    assert {(kind, topic) for kind in ("stranger", "opted_out") for topic in ("transaction", "marketing")} <= seen


def test_groups_and_blocks_never_share_a_number() -> None:
    ends = [
        (People(block, 1, 1).number(group, at), group, block, at)
        for group in GROUPS
        for block in (0, 1, 2999)
        for at in (0, 99_999)
    ]
    assert len({number for number, *_ in ends}) == len(ends)
    assert all(re.fullmatch(r"\+861[3-9]\d{9}", number) for number, *_ in ends)
    spans = sorted((People(block, 1, 1).number(group, 0), group) for group in GROUPS for block in range(3))
    assert len(spans) == len(set(spans))


def _tally(strangers: int = 20, opted_out: int = 10, total: int = 1000) -> Tally:
    tally = Tally(planned=100, sent=100, latencies_ms=[5.0] * 100)
    for _ in range(strangers):
        tally.answer("stranger", "relationship.missing")
    for _ in range(opted_out):
        tally.answer("opted_out", "suppressed")
    for _ in range(total - strangers - opted_out):
        tally.answer("permitted", "accepted")
    return tally


def test_a_run_as_planned_passes() -> None:
    tally = _tally()
    tally.repeated("id", "id")
    assert tally.faults() == []
    assert "relationship.missing 20" in "\n".join(tally.lines(1.0))


@pytest.mark.parametrize(("strangers", "opted_out", "passes"), [(22, 10, True), (23, 10, False), (20, 13, False)])
def test_shares_off_by_more_than_two_tenths_of_a_point_fail(strangers: int, opted_out: int, passes: bool) -> None:
    assert (_tally(strangers, opted_out).faults() == []) is passes


@pytest.mark.parametrize("kind", list(EXPECTED))
@pytest.mark.parametrize("code", ["unavailable", "window.exceeded", "status 500"])
def test_a_code_that_was_not_planned_fails(kind: str, code: str) -> None:
    tally = _tally(total=100_000, strangers=2000, opted_out=1000)
    tally.answer(kind, code)
    assert tally.faults() == [f"unexpected {kind}: {code} x1"]


def test_somebody_refused_who_should_not_be_counts_as_both() -> None:
    tally = _tally(opted_out=0)
    for _ in range(10):
        tally.answer("opted_out", "accepted")
    assert tally.faults()[0] == "unexpected opted_out: accepted x10"
    assert any(fault.startswith("refused as opted_out: 0.00%") for fault in tally.faults())


def test_slow_unsent_doubled_and_empty_runs_fail() -> None:
    slow = _tally()
    slow.latencies_ms = [5.0] * 98 + [300.0] * 2
    assert slow.faults() == ["p99 of a single POST is 300 ms, the limit 250 ms"]
    unsent = _tally()
    unsent.planned = 106
    assert unsent.faults() == ["only 100 of 106 planned requests could be sent"]
    doubled = _tally()
    doubled.repeated("one", "two")
    assert doubled.faults() == ["unexpected repeat: another id x1"]
    assert Tally().faults() == ["no message was answered"]


@pytest.mark.parametrize(("written", "seconds"), [("30", 30), ("30s", 30), ("2m", 120), (" 1.5 s ", 1.5)])
def test_durations(written: str, seconds: float) -> None:
    assert seconds_of(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "1h", "-3", "3 4"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds_of(written)
