"""Opens a bundle of evidence without trusting it: container, seal, checkpoint and timestamp, read from their formats.

Part of the offline verifier (`verify`), and as independent of the writer: shares only `checkpoint`, `merkle` and notes.
Each look returns what it found, in English and Chinese, or raises `Failed` with the same.
"""

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.ledger.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from gateway.ledger.note import Note, NoteError, Verifier, open_note
from gateway.ledger.timestamps import TimestampError, stamped_at_ms, verify_timestamp

HEADER = "assent evidence bundle v1"
FORMAT = "assent-evidence/1"
LARGEST = 256 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9@._-]{0,99})?")
"""Names of files: none leads out of a folder, hides a line of `SEAL`, or writes to a terminal what it likes."""
_LATEST_MS = 2**63 - 1

Found = tuple[bool | None, str, str]
"""Good, or none where it could not be looked at; in English; in Chinese."""


class Failed(Exception):  # noqa: N818 - it is caught by the verifier, and says what a check says
    """A check failed; what follows from it cannot be looked at."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.en, self.zh = en, zh


class Bundle:
    """One bundle being opened; each look may use what those before it found."""

    def __init__(self, raw: bytes, vkeys: Sequence[str], authority: bytes | None) -> None:
        """`authority`: the time-stamping authority's root certificate, PEM. Raises NoteError for keys that are none."""
        self.verifiers = [Verifier(vkey) for vkey in vkeys]
        self._raw, self._authority = raw, authority
        self.files: dict[str, bytes] = {}
        self.told: dict[str, Any] = {}
        self.checkpoint: Checkpoint | None = None
        self.record_key: Verifier | None = None

    def container(self) -> Found:
        """The ZIP is the one that its files make."""
        if len(self._raw) > LARGEST:
            raise Failed("too large", "文件过大")
        try:
            with zipfile.ZipFile(io.BytesIO(self._raw)) as archive:
                listed = archive.infolist()
                self._contained(listed)
                self.files = {one.filename: archive.read(one) for one in listed}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, struct.error):
            raise Failed("not a readable ZIP", "不是可读的 ZIP 文件") from None
        if _packed(self.files) != self._raw:
            raise Failed("the container was changed", "容器字节被改动")
        return (
            True,
            f"{len(self.files)} files, byte for byte as they are written",
            f"{len(self.files)} 个文件，逐字节一致",
        )

    def seal(self) -> Found:
        """Every file is as it was when the bundle was sealed by the installation's record key."""
        note = self._note("SEAL")
        sealers = {(line.name, line.key_id) for line in note.verified if line.name.endswith("/records")}
        key = next((one for one in self.verifiers if (one.name, one.key_id) in sealers), None)
        if key is None:
            raise Failed("not sealed by a record key", "封签密钥不是记录密钥")
        self.record_key = key
        header, *lines = note.text.split("\n")[:-1]
        actual = [
            f"{hashlib.sha256(self.files[name]).hexdigest()}  {name}" for name in sorted({*self.files} - {"SEAL"})
        ]
        if header != HEADER or lines != actual:
            wrong = sorted({line.partition("  ")[2] for line in {*lines} ^ {*actual}})
            raise Failed(
                f"changed, missing or added: {', '.join(wrong[:5])}", f"被改动、缺失或新增：{', '.join(wrong[:5])}"
            )
        self.told = json.loads(self.files["bundle.json"])
        if canonical(self.told) != self.files["bundle.json"]:
            raise Failed("bundle.json could be read in more than one way", "bundle.json 的写法不唯一")
        if self.told["format"] != FORMAT:
            raise Failed("a bundle of another format", "证据包格式未知")
        return True, f"sealed by {key.name}, nothing changed since", f"由 {key.name} 封签，此后未改动"

    def log(self) -> Found:
        """The checkpoint is signed by the log; who else has signed it."""
        try:
            checkpoint, note = open_checkpoint(self.files["checkpoint"], self.told["origin"], self.verifiers)
        except (NoteError, CheckpointError) as fault:
            raise Failed(str(fault), "检查点签名无效") from None
        if (checkpoint.size, f"{checkpoint.origin}/records") != (self.told["tree_size"], self._sealer()):
            raise Failed("the checkpoint is of another log or size", "检查点属于其他日志")
        self._shaped(checkpoint.size)
        self.checkpoint = checkpoint
        witnesses = [line.name for line in note.verified if line.time_s is not None]
        seen = f"; cosigned by {', '.join(witnesses)}" if witnesses else "; no witness of a given key has cosigned it"
        seen_zh = f"；见证人 {'、'.join(witnesses)} 已联署" if witnesses else "；无已知见证人联署"
        return (
            True,
            f"the log {checkpoint.origin} signed {checkpoint.size} entries{seen}",
            f"日志 {checkpoint.origin} 已对 {checkpoint.size} 条记录签名{seen_zh}",
        )

    def timestamp(self) -> Found:
        """An authority says when the checkpoint was there."""
        reply = self.files.get("checkpoint.tsr")
        if reply is None:
            return None, "no time-stamping authority was asked", "未使用时间戳机构"
        if self._authority is None:
            return (
                None,
                "there is a timestamp; give the authority's certificate to check it",
                "有时间戳；请提供机构证书以核验",
            )
        try:
            verify_timestamp(reply, self.files["checkpoint"], self._authority)
            at = stamped_at_ms(reply, self.files["checkpoint"]) // 1000
        except TimestampError as fault:
            raise Failed(str(fault), "时间戳无效") from None
        return (
            True,
            f"the authority saw the checkpoint at {at} (Unix seconds)",
            f"时间戳机构于 {at}（Unix 秒）见到该检查点",
        )

    @staticmethod
    def _contained(listed: Sequence[zipfile.ZipInfo]) -> None:
        """Nothing that unpacks to more than is there, and no name that is not one of ours."""
        if any(one.compress_type != zipfile.ZIP_STORED for one in listed):
            raise Failed("a file in it is compressed", "含压缩文件")
        if sum(one.file_size for one in listed) > LARGEST or len({one.filename for one in listed}) != len(listed):
            raise Failed("too large, or a name stands twice", "文件过大或重名")
        if not all(_NAME.fullmatch(one.filename) for one in listed):
            raise Failed("a file in it has a name that no bundle has", "含异常文件名")

    def _shaped(self, size: int) -> None:
        """Every entry's numbers are numbers, and such as a log of this size can hold."""
        for entry in self.all():
            bounds = ((entry["seq"], 1, size), (entry.get("count", 1), 1, size), (entry["at"], 0, _LATEST_MS))
            if not all(type(value) is int and low <= value <= high for value, low, high in bounds):
                raise Failed("an entry has an impossible place, count or time", "记录的序号、计数或时间不可能存在")

    def all(self) -> Iterator[dict[str, Any]]:
        """Every entry that has a proof: the person's, and the rules'."""
        yield from self.told["entries"]
        yield from self.told["packs"]

    def bodies(self) -> Iterator[dict[str, Any]]:
        """The person's readable records."""
        return (json.loads(entry["body"]) for entry in self.told["entries"] if "body" in entry)

    def erasures(self) -> list[int]:
        """Places of the readable records that this person's data was erased."""
        entries = self.told["entries"]
        return [
            entry["seq"]
            for entry in entries
            if "body" in entry and json.loads(entry["body"])["event_type"] == "erasure"
        ]

    def at(self, seq: int) -> int:
        """When an entry was recorded, Unix milliseconds."""
        return next(int(entry["at"]) for entry in self.told["entries"] if entry["seq"] == seq)

    def _note(self, name: str) -> Note:
        try:
            return open_note(self.files[name], self.verifiers)
        except NoteError as fault:
            raise Failed(str(fault), "签名无效或密钥未知") from None

    def _sealer(self) -> str:
        return self.record_key.name if self.record_key is not None else ""


def canonical(value: Any) -> bytes:
    """RFC 8785 for what bundles hold: no fractions, and names that sort alike by code point and by UTF-16 here."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _packed(files: Mapping[str, bytes]) -> bytes:
    """The one container of these files: stored, by name, fixed headers."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, files[name])
    return held.getvalue()
