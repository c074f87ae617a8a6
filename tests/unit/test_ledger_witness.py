"""The witness client against a peer that answers anything: what counts, what is refused, and when it gives up.

A real witness is in tests/interop; here only the bytes of a server are played.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.merkle import leaf_hash
from gateway.ledger.note import COSIGNATURE, NoteError, Signer, generate, sign
from gateway.ledger.witness import Witness, WitnessAwayError, WitnessConflictError, WitnessRefusedError

SKEY, _ = generate("log.example/assent", seed=b"l" * 32)
WITNESS_SKEY, WITNESS_VKEY = generate("witness.example", COSIGNATURE, b"w" * 32)
CHECKPOINT = Checkpoint("log.example/assent", 9, leaf_hash(b"root"))
SIGNED = sign(CHECKPOINT.text(), [Signer(SKEY)])
COSIGNED = Signer(WITNESS_SKEY).sign(CHECKPOINT.text(), 1_700_000_000).line()


def response(status: int, body: str | bytes, *headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(content)}", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


class Peer:
    """A server on loopback that answers each request in turn with the next of `answers`, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.asked: list[bytes] = []
        self.hold_s = 0.0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.asked.append(head + await reader.readexactly(length))
        await asyncio.sleep(self.hold_s)
        writer.write(self.answers[min(len(self.asked), len(self.answers)) - 1])
        writer.close()


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[tuple[Peer, Witness]]:
    one = Peer()
    server = await asyncio.start_server(one.answer, "127.0.0.1", 0)
    witness = Witness(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/prefix/", WITNESS_VKEY, answer_within_s=0.5
    )
    yield one, witness
    await witness.close()
    server.close()


Called = tuple[Peer, Witness]


async def test_a_cosignature_is_verified_and_strangers_lines_are_passed_over(peer: Called) -> None:
    server, witness = peer
    stranger = Signer(generate("witness.example", COSIGNATURE)[0]).sign(CHECKPOINT.text(), 1).line()
    server.answers = [response(200, stranger + COSIGNED)]
    signature = await witness.add_checkpoint(SIGNED, 4, [b"a" * 32])
    assert (signature.line(), signature.time_s) == (COSIGNED, 1_700_000_000)
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /prefix/add-checkpoint HTTP/1.1")
    assert body == b"old 4\nYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\n\n" + SIGNED


@pytest.mark.parametrize(
    "answer",
    [
        response(200, ""),
        response(200, "thanks\n"),
        response(200, b"\xff\xfe\n"),
        response(200, COSIGNED[:-1]),
        response(200, Signer(WITNESS_SKEY).sign("another text\n", 1).line()),
        response(200, Signer(generate("other.example", COSIGNATURE)[0]).sign(CHECKPOINT.text(), 1).line()),
        response(200, COSIGNED * 1000),
        response(302, "", "location: http://127.0.0.1:1/"),
        response(429, "later"),
        response(500, "fault"),
        response(409, "many\n"),
        response(409, "-1\n"),
        response(409, "9" * 30),
        b"not HTTP\r\n\r\n",
        b"",
    ],
)
async def test_what_is_no_cosignature_is_no_answer(peer: Called, answer: bytes) -> None:
    server, witness = peer
    server.answers = [answer]
    with pytest.raises(WitnessAwayError):
        await witness.add_checkpoint(SIGNED, 0, [])


@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_a_refusal_has_its_status(peer: Called, status: int) -> None:
    server, witness = peer
    server.answers = [response(status, "no")]
    with pytest.raises(WitnessRefusedError) as found:
        await witness.add_checkpoint(SIGNED, 0, [])
    assert found.value.status == status


async def test_a_witness_that_says_nothing_is_left_in_time(peer: Called) -> None:
    server, witness = peer
    server.answers, server.hold_s = [response(200, COSIGNED)], 1.5
    began = time.monotonic()
    with pytest.raises(WitnessAwayError, match=r"within 0\.5 s"):
        await witness.cosign(SIGNED, 0, never)
    assert time.monotonic() - began < 1.2


async def test_nobody_listening_is_away() -> None:
    witness = Witness("http://127.0.0.1:1", WITNESS_VKEY)
    with pytest.raises(WitnessAwayError, match="cannot be reached"):
        await witness.cosign(SIGNED, 0, never)
    await witness.close()


@pytest.mark.parametrize(
    ("said", "known", "proved", "calls"),
    [(0, 5, [5], 2), (3, 5, [3, 5], 2), (5, 0, [5], 2), (5, 9, [5, 9], 2), (5, 10, [5], 1), (5, 5, [5], 1)],
)
async def test_a_second_call_proves_from_what_the_witness_knows(
    peer: Called, said: int, known: int, proved: list[int], calls: int
) -> None:
    """The witness knows `known`; the checkpoint is of 9."""
    server, witness = peer
    server.answers = [response(409, f"{known}\n"), response(200, COSIGNED)]
    asked: list[int] = []
    if calls == 2:
        assert (await witness.cosign(SIGNED, said, recorded(asked))).line() == COSIGNED
    else:
        with pytest.raises(WitnessConflictError) as found:
            await witness.cosign(SIGNED, said, recorded(asked))
        assert found.value.size == known
    assert (asked, len(server.asked)) == (proved, calls)


def test_a_key_of_another_type_is_no_witnesss() -> None:
    with pytest.raises(NoteError, match="cosignature"):
        Witness("http://127.0.0.1:1", generate("witness.example")[1])


def recorded(asked: list[int]) -> Callable[[int], list[bytes]]:
    def prove(old: int) -> list[bytes]:
        asked.append(old)
        return [b"p" * 32]

    return prove


def never(_old: int) -> list[bytes]:
    raise AssertionError("a proof from nothing was asked for")
