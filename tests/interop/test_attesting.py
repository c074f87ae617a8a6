"""Witnesses and a time-stamping authority over real HTTP: OpenSSL's own `ts`, and witnesses that remember."""

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.ledger import note
from gateway.ledger.attesting import ATTESTED, ATTESTED_TIME, Attesting
from gateway.ledger.checkpoint import open_checkpoint, parse
from gateway.ledger.merkle import ProofError, verify_consistency
from gateway.ledger.note import COSIGNATURE, Signer, Verifier, open_note, plain_base64, split
from gateway.ledger.timestamps import TimestampError, Timestamps, stamped_at_ms, verify_timestamp
from gateway.ledger.witness import Witness
from gateway.local.parts import free_port
from tests.integration.tree_rig import Ground, ground

pytestmark = pytest.mark.interop

OPENSSL = """
[req]
distinguished_name = dn
prompt = no
[dn]
CN = Test
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[tsa]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[ts]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
{chain}
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
"""


@dataclass
class Authority:
    """OpenSSL answering one request at a time."""

    folder: Path
    chain: bool
    """Whether it sends the root's certificate along, as many do: in no order, which DER does not allow."""
    fail: str | None = None

    def run(self, *words: str, given: bytes = b"") -> bytes:
        done = subprocess.run(["openssl", *words], input=given, capture_output=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def prepare(self) -> None:
        at = str(self.folder)
        (self.folder / "openssl.cnf").write_text(
            OPENSSL.format(folder=at, chain=f"certs = {at}/ca.pem" if self.chain else "")
        )
        (self.folder / "serial").write_text("01\n")
        config = ("-config", f"{at}/openssl.cnf")
        new = ("req", "-newkey", "rsa:2048", "-nodes", *config)
        root = ("-x509", "-extensions", "ca", "-days", "2", "-subj", "/CN=Root")
        self.run(*new, *root, "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.pem")
        self.run(*new, "-subj", "/CN=Authority", "-keyout", f"{at}/tsa.key", "-out", f"{at}/tsa.csr")
        by = ("-CA", f"{at}/ca.pem", "-CAkey", f"{at}/ca.key", "-CAcreateserial", "-days", "2")
        uses = ("-extfile", f"{at}/openssl.cnf", "-extensions", "tsa")
        self.run("x509", "-req", "-in", f"{at}/tsa.csr", *by, *uses, "-out", f"{at}/tsa.pem")

    def stamp(self, asked: bytes) -> bytes:
        at = str(self.folder)
        (self.folder / "asked.tsq").write_bytes(asked)
        words = ("ts", "-reply", "-config", f"{at}/openssl.cnf", "-section", "ts", "-queryfile", f"{at}/asked.tsq")
        self.run(*words, "-out", f"{at}/reply.tsr")
        return (self.folder / "reply.tsr").read_bytes()


@dataclass
class Remembering:
    """A witness: cosigns what continues what it cosigned before (C2SP tlog-witness)."""

    signer: Signer
    verifiers: list[Verifier]
    size: int = 0
    root: bytes = b""
    away: bool = False
    asked: list[int] = field(default_factory=list)

    def add(self, body: bytes) -> Response:
        if self.away:
            return PlainTextResponse("", 503)
        head, _, checkpoint = body.partition(b"\n\n")
        first, *hashes = head.decode().split("\n")
        old, text = int(first.removeprefix("old ")), split(checkpoint)[0]
        open_note(checkpoint, self.verifiers)
        new = parse(text)
        self.asked.append(old)
        if old != self.size:
            return PlainTextResponse(f"{self.size}\n", 409)
        if old:
            try:
                verify_consistency(old, new.size, [plain_base64(one) for one in hashes], self.root, new.root)
            except ProofError:
                return PlainTextResponse("", 422)
        self.size, self.root = new.size, new.root
        return PlainTextResponse(self.signer.sign(text, 1_764_000_000).line())


@pytest.fixture(scope="module", params=[False, True], ids=["one certificate", "two certificates"])
def authority(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"), request.param)
    made.prepare()
    return made


@asynccontextmanager
async def served(authority: Authority, *witnesses: Remembering) -> AsyncIterator[str]:
    async def timestamp(request: Request) -> Response:
        if authority.fail is not None:
            return Response(authority.fail.encode(), 200)
        return Response(await asyncio.to_thread(authority.stamp, await request.body()))

    async def witness(request: Request) -> Response:
        return witnesses[request.path_params["n"]].add(await request.body())

    app = Starlette(
        routes=[
            Route("/tsa", timestamp, methods=["POST"]),
            Route("/w/{n:int}/add-checkpoint", witness, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, port=(port := free_port()), log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


@pytest.fixture
async def here(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(postgres_url, migrated, redis_url, tmp_path) as made:
        await made.append(30)
        await made.sequenced()
        yield made


def remembering(here: Ground, name: str) -> tuple[Remembering, str]:
    skey, vkey = note.generate(name, COSIGNATURE)
    return Remembering(Signer(skey), list(here.log().verifiers)), vkey


async def test_checkpoints_are_cosigned_and_timestamped(here: Ground, authority: Authority) -> None:
    (one, one_key), (two, two_key) = remembering(here, "one.test"), remembering(here, "two.test")
    authority.fail = None
    async with served(authority, one, two) as url:
        witnesses = [Witness(f"{url}/w/0", one_key), Witness(f"{url}/w/1", two_key)]
        attesting = Attesting(here.dsn, here.log(), witnesses, Timestamps(f"{url}/tsa"), 60.0)
        first = await attesting.attest()
        assert first is not None
        assert first.complete
        assert await attesting.attest() is None  # nothing new
        await here.append(300)
        await here.sequenced()
        second = await attesting.attest()
        await attesting.close()
    assert second is not None
    assert (first.size, second.size, one.asked) == (30, 330, [0, 30])
    keys = [*here.log().verifiers, Verifier(one_key), Verifier(two_key)]
    raw = (here.folder / ATTESTED).read_bytes()
    checkpoint, opened = open_checkpoint(raw, "assent.test/log", keys)
    assert (checkpoint.size, len(opened.verified)) == (330, 3)
    reply = (here.folder / ATTESTED_TIME).read_bytes()
    root = (authority.folder / "ca.pem").read_bytes()
    verify_timestamp(reply, raw, root)
    written_at = (authority.folder / "reply.tsr").stat().st_mtime
    assert abs(stamped_at_ms(reply, raw) / 1000 - written_at) < 60
    words = hashlib.sha256(raw).digest() + b"\x02\x01\x01\x18\x0f20200101000000Z"  # as a status in words can hold
    for forged in (words + reply, reply + words, b"\x18\x0f20200101000000Z" + reply):
        try:
            assert abs(stamped_at_ms(forged, raw) / 1000 - written_at) < 60
        except TimestampError:
            continue
    with pytest.raises(TimestampError):
        verify_timestamp(reply, raw + b"\n", root)
    with pytest.raises(TimestampError):
        verify_timestamp(b"nonsense", raw, root)
    kept = await here.pool.fetch("SELECT size, timestamp_reply FROM ledger_attested ORDER BY size")
    assert [row["size"] for row in kept] == [30, 330]
    (authority.folder / "kept.tsr").write_bytes(reply)
    (authority.folder / "kept").write_bytes(raw)
    at = str(authority.folder)  # by a tool that is not ours
    authority.run("ts", "-verify", "-data", f"{at}/kept", "-in", f"{at}/kept.tsr", "-CAfile", f"{at}/ca.pem")


async def test_who_is_away_is_left_out_and_asked_again(here: Ground, authority: Authority) -> None:
    (one, one_key), (two, two_key) = remembering(here, "one.test"), remembering(here, "two.test")
    two.away, authority.fail = True, "no timestamp"
    async with served(authority, one, two) as url:
        witnesses = [Witness(f"{url}/w/0", one_key), Witness(f"{url}/w/1", two_key)]
        attesting = Attesting(here.dsn, here.log(), witnesses, Timestamps(f"{url}/tsa"), 60.0)
        partly = await attesting.attest()
        assert partly is not None
        assert (partly.complete, partly.reply) == (False, None)
        two.away, authority.fail = False, None
        whole = await attesting.attest()
        assert whole is not None
        assert whole.complete
        await attesting.close()


async def test_a_witness_that_saw_more_than_we_have_is_an_alarm(
    here: Ground, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tiles, memory and database are rolled back together; the witness is not."""
    one, one_key = remembering(here, "one.test")
    one.size, one.root = 500, b"\1" * 32
    async with served(authority, one) as url:
        attesting = Attesting(here.dsn, here.log(), [Witness(f"{url}/w/0", one_key)], None, 60.0)
        found = await attesting.attest()
        assert found is not None
        assert not found.complete
        await attesting.close()
    assert "witness_disagrees" in capsys.readouterr().out
    assert (one.size, one.root) == (500, b"\1" * 32)
