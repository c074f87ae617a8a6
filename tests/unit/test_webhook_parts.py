"""When a webhook is tried again, how wide a lane is, what is signed, sealed and said."""

import asyncio
import random
import uuid
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.contract.decision import Cause, Status
from gateway.contract.webhook import MessageStatus, RecipientData, RecipientSaid, StatusData, body_of
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.records.webhooks import Due
from gateway.settle import seals
from gateway.settle.webhooks.lanes import NEW, WIDEST, Lanes
from gateway.settle.webhooks.schedule import DELIVERED, GONE, MOST_AFTER_S, WAITS_S, read, wait_s
from gateway.settle.webhooks.signing import headers, secrets_of
from gateway.settle.webhooks.wire import Resolver, retry_after

KEYS = Keys(b"m" * 32, b"p" * 32)
NEW_SECRET, OLD_SECRET = "whsec_" + "QUJD" * 8, "whsec_" + "REVG" * 8
SCHEMA = orjson.loads((Path(__file__).parents[2] / "schemas/webhooks.schema.json").read_bytes())
AT = datetime(2026, 11, 25, 8, 0, 0, 123_000, UTC)


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_ten_tries_over_some_sixteen_hours() -> None:
    middle = [wait_s(n, None, 0.5) for n in range(1, 10)]
    assert middle == [float(one) for one in WAITS_S]
    assert wait_s(10, None, 0.5) is None
    assert 15 * 3600 < sum(WAITS_S) < 17 * 3600


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_spread_over_its_own_length(attempts: int, draw: float) -> None:
    wait = wait_s(attempts, None, draw)
    assert wait is not None
    assert 0.5 <= wait / WAITS_S[attempts - 1] <= 1.5


def test_waits_do_not_come_back_together() -> None:
    rng = random.Random(3)
    assert len({round(wait_s(4, None, rng.random()) or 0) for _ in range(200)}) > 100


@given(st.integers(1, 9), st.one_of(st.none(), st.floats(-10, 1e9)), st.floats(0, 1, exclude_max=True))
def test_retry_after_lengthens_within_an_hour_and_never_shortens(
    attempts: int, after_s: float | None, draw: float
) -> None:
    plain, wait = wait_s(attempts, None, draw), wait_s(attempts, after_s, draw)
    assert plain is not None
    assert wait is not None
    assert plain <= wait <= max(plain, MOST_AFTER_S * 1.2)
    if after_s is not None:
        assert wait >= min(after_s, MOST_AFTER_S)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_two_hundred_and_something_is_taken_in(status: int) -> None:
    assert read(status, None) is DELIVERED


@pytest.mark.parametrize("status", [100, 301, 302, 307, 308, 400, 401, 404, 409, 429, 500, 502, 503])
def test_every_other_answer_is_tried_again(status: int) -> None:
    assert read(status, 7.0).last() == f"refused {status}"
    assert read(status, 7.0).after_s == 7.0


def test_gone_is_for_good() -> None:
    assert read(410, None) is GONE


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("120", AT) == 120
    assert retry_after("Wed, 25 Nov 2026 08:01:00 GMT", AT.replace(microsecond=0)) == 60
    assert retry_after("Wed, 25 Nov 2020 08:01:00 GMT", AT) == 0
    assert [retry_after(one, AT) for one in (None, "", "soon", "-5", "1.5", "١٢")] == [None] * 6
    assert retry_after("9" * 5000, AT) == 999_999_999


# --- lanes -----------------------------------------------------------------------------------------------------------


def test_a_lane_that_fails_has_one_place_and_widens_with_each_success() -> None:
    lanes = Lanes()
    for _ in range(NEW):
        lanes.begin(b"a")
    assert lanes.rooms() == {b"a": 0}
    lanes.end(b"a", answered=False)
    assert lanes.rooms() == {b"a": 0}
    lanes.end(b"a", answered=True)
    assert lanes.rooms() == {b"a": 2}
    for _ in range(WIDEST + 5):
        lanes.begin(b"a")
        lanes.end(b"a", answered=True)
    assert lanes.rooms() == {b"a": WIDEST}
    assert lanes.under_way == 0


# --- signatures ------------------------------------------------------------------------------------------------------


def test_the_librarys_own_verifier_takes_it_and_takes_no_other() -> None:
    body, name, now = b'{"type":"message.status"}', uuid.uuid4(), int(datetime.now(UTC).timestamp() * 1000)
    head = headers(name, body, [NEW_SECRET, OLD_SECRET], now)
    for secret in (NEW_SECRET, OLD_SECRET):
        assert Webhook(secret).verify(body, head) == {"type": "message.status"}
    others = (
        (body + b" ", head),
        (body, {**head, "webhook-id": str(uuid.uuid4())}),
        (body, {**head, "webhook-timestamp": str(now // 1000 - 1)}),
        (body, headers(name, body, [NEW_SECRET], now - 3_600_000)),
    )
    for wrong_body, wrong_head in others:
        with pytest.raises(WebhookVerificationError):
            Webhook(NEW_SECRET).verify(wrong_body, wrong_head)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "eHh4" * 8).verify(body, head)


def test_a_published_vector_of_standard_webhooks() -> None:
    """The example of the specification: its secret, id, time and body give its signature."""
    secret, name = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    signed = Webhook(secret).sign(name, datetime.fromtimestamp(1_614_265_330, UTC), '{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def due(**more: object) -> Due:
    fields = {
        "id": uuid.uuid4(), "client": "shop", "address": b"a" * 16, "lane": b"l", "attempts": 1, "made_at": 0,
        "sealed": b"", "url": b"", "gone": False, "secret": seals.seal_secret(KEYS, "shop", NEW_SECRET),
        "former": seals.seal_secret(KEYS, "shop", OLD_SECRET), "former_until": 1_000,
    }  # fmt: skip
    return Due(**{**fields, **more})  # type: ignore[arg-type]


def test_a_former_secret_signs_until_its_time_is_over() -> None:
    assert secrets_of(KEYS, due(), 999) == [NEW_SECRET, OLD_SECRET]
    assert secrets_of(KEYS, due(), 1_000) == [NEW_SECRET]
    assert secrets_of(KEYS, due(secret=None), 0) == []


def test_what_is_sealed_opens_as_nothing_else() -> None:
    name = uuid.uuid4()
    body = MessageStatus(timestamp=AT, data=status_data())
    sealed = seals.seal_body(KEYS, name, body)
    assert seals.open_body(KEYS, name, sealed) == body_of(body)
    with pytest.raises(KeyMismatchError):
        seals.open_body(KEYS, uuid.uuid4(), sealed)
    with pytest.raises(KeyMismatchError):
        seals.open_secret(KEYS, "other", seals.seal_secret(KEYS, "shop", NEW_SECRET))
    with pytest.raises(KeyMismatchError):
        seals.open_address(Keys(b"o" * 32, b"p" * 32), b"n", seals.seal_address(KEYS, b"n", "https://x.example"))


def test_a_notices_id_is_a_uuid_made_of_what_it_tells() -> None:
    one = seals.notice_id(KEYS, "message.status", "m", "3", "aa")
    assert one == seals.notice_id(KEYS, "message.status", "m", "3", "aa")
    assert one not in {seals.notice_id(KEYS, "message.status", "m", "4", "aa"), seals.notice_id(KEYS, "m", "3")}
    assert (one.version, one.variant) == (8, uuid.RFC_4122)


# --- bodies ----------------------------------------------------------------------------------------------------------


def status_data(**more: object) -> StatusData:
    fields = {"id": str(uuid.uuid4()), "status": Status.SENT, "attempt": 1, "parts": 1, "at": AT, "rank": 2_000_001}
    return StatusData(**{**fields, **more})  # type: ignore[arg-type]


def said(**more: object) -> RecipientData:
    fields = {"id": "r1", "carrier": "sim", "sender": "acme", "port": "10690001", "subject": "ab" * 16, "at": AT}
    return RecipientData(**{**fields, **more})  # type: ignore[arg-type]


def test_bodies_fit_the_published_schema_and_statuses_name_nobody() -> None:
    plain = MessageStatus(timestamp=AT, data=status_data())
    full = MessageStatus(
        timestamp=AT, data=status_data(client_ref="o-1", status=Status.REJECTED, cause=Cause.CONTENT, code="8")
    )
    reply = RecipientSaid(type="recipient.reply", timestamp=AT, data=said(from_="+8613800138000", text="什么时候到?"))
    out = RecipientSaid(type="recipient.opted_out", timestamp=AT, data=said(scope="acme#marketing"))
    for one in (plain, full, reply, out):
        jsonschema.validate(orjson.loads(body_of(one)), SCHEMA)
    assert set(orjson.loads(body_of(full))["data"]) == {
        "id", "client_ref", "status", "cause", "code", "attempt", "parts", "at", "rank"
    }  # fmt: skip
    told = orjson.loads(body_of(reply))
    assert told["data"]["from"] == "+8613800138000"
    assert told["timestamp"] == "2026-11-25T08:00:00.123000Z"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**told, "type": "recipient.guess"}, SCHEMA)


# --- the resolver ----------------------------------------------------------------------------------------------------


async def test_one_question_a_name_however_many_ask(tmp_path: Path) -> None:
    resolver = Resolver()
    answers = await asyncio.gather(*(resolver("localhost", 443) for _ in range(50)))
    assert all(set(one) <= {"127.0.0.1", "::1"} for one in answers)
    assert not resolver._asked
    with pytest.raises(OSError):  # noqa: PT011 - socket.gaierror
        await resolver("no-such-name.invalid", 443)
    assert not resolver._asked
    resolver.close()
