"""The breaker's rule: what passes a line, what never does, and how soon and how seldom, simulated."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules import pack as packs
from gateway.rules.breaker import Counts, Kind, Line, Lines, Tally, judge, lower_bound, pressure
from loadtests import breaker as bench

LINES = packs.load("cn").breaker
DAY = next(line for line in LINES.lines if line.name == "complaints_24h")
KINDS = st.sampled_from(("sender", "campaign", "port", "list_source"))
DELIVERED = st.integers(0, 20_000_000)
NUMBERS = st.integers(0, 3_000)


@st.composite
def counted(draw: st.DrawFn) -> Counts:
    """Two windows, the longer of which holds the shorter."""
    day = Tally(*(draw(one) for one in (DELIVERED, NUMBERS, NUMBERS, NUMBERS)))
    more = Tally(*(draw(one) for one in (DELIVERED, NUMBERS, NUMBERS, NUMBERS)))
    return Counts(day, Tally(*map(sum, zip(day, more, strict=True))))


@given(KINDS, counted(), st.sampled_from(("complaints", "confirmed", "unsubscribes")), st.integers(1, 50))
def test_more_of_what_is_bad_is_never_better(kind: Kind, counts: Counts, what: str, more: int) -> None:
    day = counts.day._replace(**{what: getattr(counts.day, what) + more})
    month = counts.month._replace(**{what: getattr(counts.month, what) + more})
    assert judge(LINES, kind, Counts(day, month)).share >= judge(LINES, kind, counts).share


@given(KINDS, st.integers(0, 999), st.integers(0, 9), st.integers(0, 999))
def test_a_rate_says_nothing_before_its_minimum(kind: Kind, delivered: int, complaints: int, opt_outs: int) -> None:
    tally = Tally(delivered, complaints, complaints, opt_outs)
    assert judge(LINES, kind, Counts(tally, tally)).level != "open"


@pytest.mark.parametrize("kind", ["sender", "campaign", "port", "list_source"])
def test_one_complaint_in_ten_messages_stops_nobody(kind: Kind) -> None:
    tally = Tally(10, 1, 1, 1)
    assert judge(LINES, kind, Counts(tally, tally)).level == "ok"


@given(KINDS, DELIVERED, st.integers(0, 2_000))
def test_the_count_opens_whatever_was_delivered(kind: Kind, delivered: int, above: int) -> None:
    assert DAY.most is not None
    tally = Tally(delivered, DAY.most + above)
    verdict = judge(LINES, kind, Counts(tally, tally))
    assert verdict.level == "open"
    assert f"{DAY.most + above:,} complaints" in verdict.reason


@given(KINDS, st.integers(0, 999), st.integers(10, 1_999))
def test_a_few_open_a_list_that_is_too_small_for_a_rate(kind: Kind, delivered: int, complaints: int) -> None:
    tally = Tally(delivered, complaints)
    assert judge(LINES, kind, Counts(tally, tally)).level == "open"


@given(st.integers(1, 5_000), st.integers(1, 10_000_000), st.floats(0, 5))
def test_the_bound_lies_below_what_was_seen_and_rises_with_it(n: int, of: int, z: float) -> None:
    n = min(n, of)
    assert 0 <= lower_bound(n, of, z) <= n / of + 1e-12
    assert lower_bound(n - 1, of, z) <= lower_bound(n, of, z)
    assert lower_bound(n, of, z) >= lower_bound(n, of + 1_000, z)


def test_the_bound_is_wilsons() -> None:
    assert lower_bound(10, 100, 1.96) == pytest.approx(0.0552, abs=1e-4)  # the textbook's 10 in 100 at 95 %
    assert lower_bound(0, 100, 2.33) == 0
    assert lower_bound(5, 0, 2.33) == 0
    assert lower_bound(7, 5, 0) == 1  # more complaints than receipts: all of them, not more


def test_half_a_line_warns_and_says_so_in_figures() -> None:
    tally = Tally(10_000, 14)
    verdict = judge(LINES, "campaign", Counts(tally, tally))
    assert verdict.level == "warn"
    assert verdict.nearest is not None
    figures = verdict.nearest.figures()
    assert (figures["n"], figures["delivered"], figures["ppm"], figures["line_ppm"]) == (14, 10_000, 1400.0, 1000)
    assert 500 <= figures["at_least_ppm"] < 1000
    assert verdict.reason.startswith("14 complaints of 10,000 delivered in 24h: at least ")
    assert judge(LINES, "campaign", Counts(Tally(10_000, 5), Tally(10_000, 5))).level == "ok"


def test_a_month_opens_where_no_day_does() -> None:
    counts = Counts(Tally(3_000, 2), Tally(90_000, 160))
    verdict = judge(LINES, "sender", counts)
    assert verdict.level == "open"
    assert verdict.nearest is not None
    assert verdict.nearest.line.name == "complaints_30d"


def test_a_port_has_its_carriers_line_and_only_for_what_was_confirmed() -> None:
    quiet = Tally(5_000_000, 60, 0)
    assert judge(LINES, "port", Counts(quiet, quiet)).level == "ok"
    told = quiet._replace(confirmed=5)
    verdict = judge(LINES, "port", Counts(told, told))
    assert verdict.level == "open"
    assert verdict.reason.startswith("5 confirmed complaints of 5,000,000 delivered in 30d")
    assert judge(LINES, "sender", Counts(told, told)).level == "ok"


def test_a_surge_of_opt_outs_opens_and_an_ordinary_campaign_does_not() -> None:
    surge, usual = Tally(5_000, 0, 0, 400), Tally(100_000, 0, 0, 1_450)
    assert judge(LINES, "campaign", Counts(surge, surge)).level == "open"
    assert judge(LINES, "campaign", Counts(usual, usual)).level == "ok"


def test_each_measure_of_a_line_is_its_own() -> None:
    bare: Line = replace(DAY, ppm=None, few=None, most=50)
    assert pressure(bare, 49, 0).share == pytest.approx(0.98)
    assert pressure(replace(DAY, most=None, few=None), 900, 999).share == 0
    assert judge(Lines(0.5, 0.35, (bare,)), "campaign", Counts(Tally(), Tally())).nearest is None


# --- how soon, how seldom ------------------------------------------------------------------------------------------


def test_at_three_in_a_thousand_it_opens_within_6000_delivered() -> None:
    found = bench.runs(LINES, bench.BAD, 600, size=bench.MOST_DELIVERED, seed=11)
    assert sum(one.opened is not None for one in found) >= bench.SURE * len(found)


def test_at_two_in_ten_thousand_it_hardly_ever_opens() -> None:
    found = bench.runs(LINES, bench.GOOD, 3_000, seed=12)
    assert sum(one.opened is not None for one in found) <= bench.FALSE_MOST * len(found)


def test_a_year_of_a_good_sender_passes_and_a_bad_one_is_stopped_again_and_again() -> None:
    assert bench.year(LINES, bench.random.Random(5), bench.GOOD, 24_000) == 0
    assert bench.year(LINES, bench.random.Random(5), bench.BAD, 24_000) > 300  # closed at once, it opens each day anew


def test_looking_only_where_a_verdict_can_change_misses_nothing() -> None:
    for n in range(40):
        rng = bench.random.Random(n)
        arrived = bench.arrivals(rng, 0.002, 20_000, 500.0 if n % 2 else 0.0)
        every = []
        for look in range(bench.EVERY, 20_001, bench.EVERY):
            known = sum(one <= look for one in arrived)
            tally = Tally(look, known)
            if judge(LINES, "campaign", Counts(tally, tally)).level == "open":
                every.append(look)
        found = bench.run(LINES, bench.random.Random(n), 0.002, size=20_000, delay=500.0 if n % 2 else 0.0)
        if found.opened is not None and found.opened < 20_000:
            assert found.opened == every[0]
        else:
            assert not every or every[0] == 20_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("calm = 0.35", "calm = 0.5", "breaker.calm: is not below warn"),
        ("most = 2000", "most = 9", "few: is more than most"),
        ("ppm = 30_000 # a list that was asked loses one to two in a hundred\n", "", "is no line: it has neither"),
        ('source = "complaint_line"\ntitle = "Complaints in a day', 'source = "x"\ntitle = "C', "unknown source 'x'"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused(tmp_path: object, old: str, new: str, said: str) -> None:
    text = packs.written("cn")
    assert old in text
    file = f"{tmp_path}/cn.toml"
    with open(file, "w", encoding="utf-8") as out:  # noqa: PTH123
        out.write(text.replace(old, new, 1))
    with pytest.raises(packs.PackError, match="breaker") as refused:
        packs.load(file)
    assert said in str(refused.value)
