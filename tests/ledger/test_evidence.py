"""Evidence for a message: made from real events and a real log, checked offline, and broken in many ways."""

import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.consent import EventKind
from gateway.ledger import events
from gateway.ledger.bundle import packed
from gateway.ledger.chain import Case
from gateway.ledger.evidence import NothingError
from gateway.ledger.note import Signer, generate
from gateway.ledger.verify import verify
from tests.integration.evidence_rig import AT, TEXT, VKEYS, Court, courtroom, failed, opened, resealed
from tests.integration.tree_rig import KEYS

pytestmark = pytest.mark.integration


@pytest.fixture
async def court(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Court]:
    async with courtroom(postgres_url, migrated, redis_url, tmp_path) as made:
        yield made


async def test_a_message_its_permission_and_all_that_proves_it(court: Court) -> None:
    raw = await court.bundle()
    report = verify(raw, VKEYS, leaves=court.leaves)
    assert report.good, [one for one in report.checks if not one.ok]
    found = {one.name: one.ok for one in report.checks}
    assert {name for name, ok in found.items() if ok} == {
        *("container", "seal", "checkpoint", "entries", "order", "person", "records", "rules", "permission"),
        "complete",
    }
    files, told = opened(raw), report.told
    assert set(files) == {
        *("SEAL", "bundle.json", "checkpoint", "report.html", "texts/acme.v1.zh.json", f"packs/{court.pack}.toml"),
        *(f"proofs/{one['seq']}.tlog-proof" for one in (*told["entries"], *told["packs"])),
    }
    assert files["texts/acme.v1.zh.json"] == TEXT.canonical
    shown_, withheld = told["entries"]
    assert json.loads(shown_["body"])["event_type"] == "grant"
    assert "body" not in withheld  # another sender's business
    assert b"o-1" not in raw
    page = files["report.html"].decode()
    for words in (court.to, f"第 {court.grant} 条", "DELIVRD", court.pack):
        assert words in page
    assert "<script" not in page


async def test_the_report_is_for_people_in_two_languages(court: Court) -> None:
    page = opened(await court.bundle())["report.html"].decode()
    assert "短信许可证据报告" in page
    assert "Evidence of permission" in page
    assert "acme v1 (zh)" in page
    assert "http" not in page.replace("https://gw.example", "").replace("https://shop.example", "")


async def test_no_byte_can_be_altered(court: Court) -> None:
    """Of every file some, of the container's own bytes some: each is caught, and nothing breaks the verifier."""
    raw = await court.bundle()
    dice = random.Random(7)
    places = {dice.randrange(len(raw)) for _ in range(400)}
    for name, content in opened(raw).items():
        begin = raw.index(content)
        places |= {begin, begin + len(content) // 2, begin + len(content) - 1, begin - len(name), begin - len(name) - 8}
    places |= {len(raw) - n for n in range(1, 23)}
    for place in sorted(places):
        spoiled = bytearray(raw)
        spoiled[place] ^= 1 << dice.randrange(8)
        report = verify(bytes(spoiled), VKEYS)
        assert not report.good, (place, raw[max(0, place - 20) : place + 20])
        assert report.checks[-1].en
    for cut in (0, 1, 100, len(raw) - 1):
        assert not verify(raw[:cut], VKEYS).good
    assert not verify(raw + b"\0", VKEYS).good


async def test_other_keys_vouch_for_nothing(court: Court) -> None:
    raw = await court.bundle()
    stranger = [generate("assent.test/log")[1], generate("assent.test/log/records")[1]]
    assert failed(verify(raw, stranger)) == {"seal"}
    assert failed(verify(raw, [stranger[0], VKEYS[1]])) == {"checkpoint"}
    assert failed(verify(raw, [VKEYS[0]])) == {"seal"}


# --- a sender that forges its own evidence, and seals it again -----------------------------------------------------


def drop_the_last(told: dict[str, Any], files: dict[str, bytes]) -> None:
    del files[f"proofs/{told['entries'].pop()['seq']}.tlog-proof"]


def edit_a_body(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    entry = told["entries"][0]
    entry["body"] = entry["body"].replace("marketing.promotion", "marketing")


def back_date(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["at"] -= 1


def swap_the_text(told: dict[str, Any], files: dict[str, bytes]) -> None:
    files["texts/acme.v1.zh.json"] = b"{}"


def soften_the_rules(told: dict[str, Any], files: dict[str, bytes]) -> None:
    name = told["packs"][0]["file"]
    files[name] = files[name].replace(b"required", b"optional")


def another_person(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["subject"] = "00" * 16


def another_number(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["number"] = "+8613900000000"


def another_purpose(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["message"]["purpose"] = "membership.birthday"


def another_entry(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["message"]["decision"]["ledger_entry"] = 1


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (edit_a_body, "entries"),
        (back_date, "entries"),
        (swap_the_text, "records"),
        (soften_the_rules, "rules"),
        (another_person, "entries"),
        (another_number, "entries"),
        (another_purpose, "permission"),
        (another_entry, "permission"),
        (drop_the_last, "complete"),
    ],
)
async def test_a_sender_cannot_forge_what_the_log_holds(
    court: Court, change: Callable[[dict[str, Any], dict[str, bytes]], None], caught: str
) -> None:
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme", ["invite"]), AT + 60_000)
    forged = resealed(await court.bundle(), change)
    assert caught in failed(verify(forged, VKEYS, leaves=court.leaves))


async def test_a_message_after_a_withdrawal_is_shown_to_be_wrong(court: Court) -> None:
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme"), AT + 60_000)
    assert failed(verify(await court.bundle(), VKEYS)) == {"permission"}


async def test_an_erased_person_leaves_proof_that_something_was_there(court: Court) -> None:
    await court.act(EventKind.ERASURE, {})
    report = verify(raw := await court.bundle(), VKEYS)
    assert report.good, [one for one in report.checks if not one.ok]
    assert {one.name for one in report.checks if one.ok is None} >= {"permission", "person"}
    assert report.told["entries"][0]["seq"] == court.grant
    assert court.to.encode() not in raw
    with pytest.raises(NothingError):
        await court.evidence.bundle(Case({"event": 1}, b"\0" * 16, None), AT)


async def test_an_event_is_found_by_place_and_by_id(court: Court) -> None:
    subject = KEYS.subject(court.to)
    assert await court.evidence.place(str(court.grant)) == (court.grant, subject)
    assert await court.evidence.place(f"opt-in:{'0a' * 16}") == (court.grant, subject)
    assert await court.evidence.place("nothing") is None
    raw = await court.evidence.bundle(Case({"event": court.grant}, subject, None), AT)
    report = verify(raw, VKEYS)
    assert report.good, [one for one in report.checks if not one.ok]
    assert {one.name for one in report.checks if one.ok is None} == {"timestamp", "permission", "complete"}


async def test_the_same_files_are_one_container() -> None:
    files = {"b": b"2", "a": b"1"}
    assert packed(files) == packed(dict(reversed(files.items())))
    assert Signer(generate("x", seed=b"1" * 32)[0]).vkey() == generate("x", seed=b"1" * 32)[1]
