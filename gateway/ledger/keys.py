"""The ledger's secrets: names of people (pepper), each person's own key (wrapped by the master key), commitments.

For opt-ins that wait for their second record: a key that seals them, one that digests their codes, and the Ed25519 key
that signs both records; all three are derived from the master key, so a copy of the database alone opens, guesses and
forges nothing. Webhooks have two more: one seals addresses, clients' signing secrets and what waits to be sent, the
other names addresses. Complaints have the same two: one seals their words, the other names them. What messages said is
sealed by a key of its day (`sealing.py`).

A person's root key is random. From it come, by HKDF-Expand (RFC 5869, SHA-256), a key for bodies and the number
(AES-256-GCM) and a key for tags; disclosing the tag key shows which leaves are the person's and opens nothing else.
Destroying the wrapped root key therefore erases bodies, number and the link between leaves at once.

Nothing here is ever printed: no repr, no text of an exception and no log line holds a key or a plain body. A process
keeps at most `KEPT` unwrapped keys in memory; `forget` drops one, and a key that is gone from PostgreSQL is not asked
for again, since the cache is looked up by the wrapped bytes.
"""

import hmac
import os
from collections import OrderedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.ledger.note import Signer, generate

KEPT = 10_000
KEY_BYTES = 32
SUBJECT_BYTES = 16
SALT_BYTES = 32
TAG_BYTES = 16
NONCE_BYTES = 12
WRAP_VERSION = b"\x01"
LEAST_PEPPER = 32


class KeyMismatchError(Exception):
    """A stored secret does not open with the given keys, or is damaged."""


def _mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104)."""
    return hmac.digest(key, message, "sha256")


def _derive(key: bytes, purpose: bytes) -> bytes:
    """One block of HKDF-Expand; the keys are uniform already, so Extract is left out (RFC 5869 §3.3)."""
    return _mac(key, b"assent " + purpose + b"\x01")


def _keyed(key: bytes) -> hmac.HMAC:
    """HMAC-SHA256 under a key that is used for every event; a copy of it takes a third less than `_mac`."""
    return hmac.new(key, digestmod="sha256")


def _of(keyed: hmac.HMAC, message: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(message)
    return mac.digest()


class PersonKeys:
    """What one person's root key opens."""

    __slots__ = ("_box", "_tag")

    def __init__(self, root: bytes) -> None:
        self._box = AESGCM(_derive(root, b"body 1"))
        self._tag = _derive(root, b"tag 1")

    def __repr__(self) -> str:
        return "PersonKeys(…)"

    def tag(self, counter: int) -> bytes:
        """The tag of the person's `counter`-th event, counted from 1."""
        return _mac(self._tag, counter.to_bytes(8, "big"))[:TAG_BYTES]

    def tag_key(self) -> bytes:
        """The key of the tags, to disclose: it shows which leaves are the person's, and opens nothing."""
        return self._tag

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Nonce and ciphertext; `bound` has to be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._box.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """What `seal` took."""
        try:
            return self._box.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise KeyMismatchError("a sealed value does not open") from None


class Keys:
    """The installation's secrets. `master`: 32 bytes; `pepper`: at least 32; both stay for the installation's life."""

    __slots__ = (
        "_case_names", "_cases", "_codes", "_contents", "_hook_names", "_hooks", "_kept", "_master", "_names",
        "_pending", "_pepper", "_records", "_subjects", "_wrap",
    )  # fmt: skip

    def __init__(self, master: bytes, pepper: bytes) -> None:
        if len(master) != KEY_BYTES or len(pepper) < LEAST_PEPPER:
            raise ValueError(f"the master key is {KEY_BYTES} bytes, the pepper at least {LEAST_PEPPER}")
        self._pepper = pepper
        self._subjects, self._names = _keyed(pepper), _keyed(_derive(pepper, b"event id 1"))
        self._master = master
        self._wrap = AESGCM(_derive(master, b"wrap 1"))
        self._pending = AESGCM(_derive(master, b"opt-in 1"))
        self._codes = _derive(master, b"opt-in code 1")
        self._hooks = AESGCM(_derive(master, b"webhook 1"))
        self._contents = _derive(master, b"contents 1")
        self._hook_names = _derive(master, b"webhook name 1")
        self._cases = AESGCM(_derive(master, b"complaint 1"))
        self._case_names = _derive(master, b"complaint name 1")
        self._records = Ed25519PrivateKey.from_private_bytes(_derive(master, b"record 1"))
        self._kept: OrderedDict[bytes, PersonKeys] = OrderedDict()

    def __repr__(self) -> str:
        return "Keys(…)"

    def subject(self, number: str) -> bytes:
        """The 16-byte name of an E.164 number: `contract.ids.subject_of`."""
        return _of(self._subjects, number.encode())[:SUBJECT_BYTES]

    def event_name(self, event_id: str) -> str:
        """How an event id is stored: a caller may have put a number into it, and the row outlives erasure."""
        return _of(self._names, event_id.encode())[:16].hex()

    def checks(self) -> tuple[bytes, bytes]:
        """Values that tell this pepper and master key from others without giving them away."""
        return _derive(self._pepper, b"pepper check")[:8], _derive(self._master, b"master check")[:8]

    def new(self, subject: bytes) -> tuple[PersonKeys, bytes]:
        """A fresh root key's keys, and it wrapped for the `subjects` row."""
        drawn = os.urandom(KEY_BYTES + NONCE_BYTES)
        root, nonce = drawn[:KEY_BYTES], drawn[KEY_BYTES:]
        wrapped = WRAP_VERSION + nonce + self._wrap.encrypt(nonce, root, b"root" + subject)
        return self._keep(wrapped, PersonKeys(root)), wrapped

    def unwrap(self, subject: bytes, wrapped: bytes) -> PersonKeys:
        """The keys of a `subjects` row."""
        kept = self._kept.get(wrapped)
        if kept is not None:
            self._kept.move_to_end(wrapped)
            return kept
        try:
            nonce, sealed = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
            root = self._wrap.decrypt(nonce, sealed, b"root" + subject)
        except (InvalidTag, ValueError):
            raise KeyMismatchError("a person's key does not open with this master key") from None
        return self._keep(wrapped, PersonKeys(root))

    def record_signer(self, origin: str) -> Signer:
        """The key that seals evidence, under the name `<log's origin>/records`; that of `sign_record`."""
        return Signer(generate(f"{origin}/records", seed=_derive(self._master, b"record 1"))[0])

    def forget(self, wrapped: bytes) -> None:
        """Drop an erased person's keys from memory."""
        self._kept.pop(wrapped, None)

    def seal_pending(self, plain: bytes, bound: bytes) -> bytes:
        """An opt-in that waits, sealed; `bound` (its id) has to be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._pending.encrypt(nonce, plain, b"opt-in" + bound)

    def open_pending(self, sealed: bytes, bound: bytes) -> bytes:
        """What `seal_pending` took; KeyMismatchError when it does not open."""
        try:
            return self._pending.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"opt-in" + bound)
        except (InvalidTag, ValueError):
            raise KeyMismatchError("a waiting opt-in does not open") from None

    def seal_webhook(self, plain: bytes, bound: bytes) -> bytes:
        """What webhooks keep, sealed; `bound` (what it is, and whose) has to be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._hooks.encrypt(nonce, plain, b"webhook" + bound)

    def open_webhook(self, sealed: bytes, bound: bytes) -> bytes:
        """What `seal_webhook` took; KeyMismatchError when it does not open."""
        try:
            return self._hooks.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"webhook" + bound)
        except (InvalidTag, ValueError):
            raise KeyMismatchError("what a webhook keeps does not open") from None

    def content_box(self, day: int) -> AESGCM:
        """AES-256-GCM under the key of what messages of a UTC day (since 1970) said."""
        return AESGCM(_derive(self._contents, b"day" + day.to_bytes(4, "big")))

    def webhook_name(self, *parts: str) -> bytes:
        """16 bytes that name these words for good; without the master key they tell nothing of an address."""
        return _mac(self._hook_names, "\0".join(parts).encode())[:16]

    def seal_case(self, plain: bytes, bound: bytes) -> bytes:
        """Words of a complaint or of its case, sealed; `bound` (whose they are) has to be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cases.encrypt(nonce, plain, b"complaint" + bound)

    def open_case(self, sealed: bytes, bound: bytes) -> bytes:
        """What `seal_case` took; KeyMismatchError when it does not open."""
        try:
            return self._cases.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"complaint" + bound)
        except (InvalidTag, ValueError):
            raise KeyMismatchError("what a complaint keeps does not open") from None

    def case_name(self, *parts: str) -> bytes:
        """16 bytes that name a complaint by what makes it the same one; without the master key they tell nothing."""
        return _mac(self._case_names, "\0".join(parts).encode())[:16]

    def code_digest(self, opt_in: str, code: str) -> bytes:
        """32 bytes under which a confirmation code is kept; without the master key a million guesses tell nothing."""
        return _mac(self._codes, f"{opt_in}\0{code}".encode())

    def sign_record(self, record: bytes) -> bytes:
        """Ed25519 (RFC 8032) over the canonical bytes of a consent record or a certificate, 64 bytes."""
        return self._records.sign(record)

    def record_verify_key(self) -> bytes:
        """The public key of `sign_record`, 32 bytes."""
        return self._records.public_key().public_bytes_raw()

    def _keep(self, wrapped: bytes, keys: PersonKeys) -> PersonKeys:
        self._kept[wrapped] = keys
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return keys


def commit(body: bytes, salt: bytes) -> bytes:
    """The commitment to a canonical body: hiding while the salt is secret, empty of meaning once it is destroyed."""
    return _mac(salt, body)


def bound_to(version: int, seq: int) -> bytes:
    """What a sealed body is bound to: its form's version and its place in the ledger."""
    return b"event" + version.to_bytes(2, "big") + seq.to_bytes(8, "big")


NUMBER_BOUND = b"number"
