"""Asks a witness to cosign a checkpoint: C2SP tlog-witness `add-checkpoint`, at commit 5ba5ee8.

A witness, run by somebody else, keeps the last checkpoint that it cosigned of every log, and cosigns a further one only
with a proof that nothing before was changed. Who holds a cosigned checkpoint knows that others see the same log.

Each call ends within its deadline, and an answer counts only once it verifies under the witness's own key. Nothing is
kept here; after a crash, or with a wrong size remembered, the witness itself says which size it knows.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence

import httpx

from gateway.ledger.checkpoint import parse
from gateway.ledger.note import COSIGNATURE, NoteError, Signature, Verifier, signature_lines, split

ANSWER_AT_MOST = 1 << 16
MOST_HASHES = 63

_OK, _CONFLICT = 200, 409
_REFUSED = frozenset(range(400, 500)) - {408, 429}
_SIZE_DIGITS = 19

Prove = Callable[[int], Sequence[bytes]]
"""The consistency proof from this size, above 0, to the checkpoint's; empty where they are equal."""


class WitnessError(Exception):
    """No cosignature; the text says why."""


class WitnessAwayError(WitnessError):
    """No answer in time, or none that can be read: ask again later."""


class WitnessRefusedError(WitnessError):
    """The witness does not know the log (404) or its key (403), or found the proof false (422): for a person to see."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the witness refused the checkpoint: {status}")
        self.status = status


class WitnessConflictError(WitnessError):
    """The witness last cosigned another size than said; one above the checkpoint's means that this log went back."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness last cosigned a tree of {size}")
        self.size = size


class Witness:
    """A witness by its submission prefix and its verifier key (of type cosignature); used by one loop."""

    def __init__(self, url: str, vkey: str, *, answer_within_s: float = 5.0) -> None:
        self._url = url.rstrip("/") + "/add-checkpoint"
        self._verifier = Verifier(vkey)
        if self._verifier.algorithm != COSIGNATURE:
            raise NoteError("a witness's key is of type cosignature")
        self._answer_within_s = answer_within_s
        self._client = httpx.AsyncClient(
            headers={"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"},
            timeout=answer_within_s,
            trust_env=False,
            follow_redirects=False,
        )

    @property
    def name(self) -> str:
        """The name in its key and its cosignatures."""
        return self._verifier.name

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def cosign(self, checkpoint: bytes, old: int, prove: Prove) -> Signature:
        """The witness's verified cosignature of a signed checkpoint; `old` is the size that it is thought to know.

        Where it knows another one, not above the checkpoint's, it is asked a second time with a proof from there. Raise
        WitnessConflictError where that is above, or changed meanwhile, and else as `add_checkpoint` does.
        """
        size = parse(split(checkpoint)[0]).size
        try:
            return await self.add_checkpoint(checkpoint, old, prove(old) if old else ())
        except WitnessConflictError as conflict:
            if conflict.size > size or conflict.size == old:
                raise
            known = conflict.size
        return await self.add_checkpoint(checkpoint, known, prove(known) if known else ())

    async def add_checkpoint(self, checkpoint: bytes, old: int, proof: Sequence[bytes]) -> Signature:
        """One call. Raise WitnessConflictError, WitnessRefusedError or WitnessAwayError for want of a cosignature."""
        if len(proof) > MOST_HASHES:
            raise ValueError("a consistency proof is at most 63 hashes")
        lines = [f"old {old}", *(base64.b64encode(one).decode() for one in proof), "", ""]
        status, answer = await self._post("\n".join(lines).encode() + checkpoint)
        if status == _CONFLICT:
            raise WitnessConflictError(_size(answer))
        if status in _REFUSED:
            raise WitnessRefusedError(status)
        if status != _OK:
            raise WitnessAwayError(f"the witness answered {status}")
        return self._cosignature(split(checkpoint)[0], answer)

    def _cosignature(self, text: str, answer: bytes) -> Signature:
        """The line of the witness's key; lines of other keys are ignored, as the specification has it."""
        try:
            for line in signature_lines(answer.decode()):
                if (line.name, line.key_id) == (self._verifier.name, self._verifier.key_id):
                    return line._replace(time_s=self._verifier.verify(text, line.raw))
        except (NoteError, UnicodeDecodeError) as error:
            raise WitnessAwayError("the witness's cosignature does not verify") from error
        raise WitnessAwayError("the witness answered no cosignature of its key")

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        answer = bytearray()
        try:
            async with (
                asyncio.timeout(self._answer_within_s),
                self._client.stream("POST", self._url, content=body) as response,
            ):
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) > ANSWER_AT_MOST:
                        raise WitnessAwayError("the witness's answer is too long")
                return response.status_code, bytes(answer)
        except TimeoutError:
            raise WitnessAwayError(f"the witness did not answer within {self._answer_within_s} s") from None
        except httpx.HTTPError as error:
            raise WitnessAwayError(f"the witness cannot be reached: {type(error).__name__}") from error


def _size(answer: bytes) -> int:
    digits = answer.removesuffix(b"\n")
    if not digits.isdigit() or len(digits) > _SIZE_DIGITS:
        raise WitnessAwayError("the witness did not say which size it knows")
    return int(digits)
