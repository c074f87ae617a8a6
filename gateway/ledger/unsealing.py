"""Opens a bundle of evidence without trusting it: container, seal, checkpoint and timestamp, read from their formats.

Part of the offline verifier (`verify`), and as independent of the writer: shares only `checkpoint`, `merkle` and notes.
Each look returns what it found, in English and Chinese, or raises `Failed` with the same.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.ledger.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from gateway.ledger.note import Note, NoteError, Verifier, open_note
from gateway.ledger.timestamps import TimestampError, stamped_at_ms, verify_timestamp

HEADER = "assent evidence bundle v1"
FORMAT = "assent-evidence/1"
LARGEST = 256 << 20

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
        try:
            with zipfile.ZipFile(io.BytesIO(self._raw)) as archive:
                names = archive.namelist()
                if sum(one.file_size for one in archive.infolist()) > LARGEST or len(set(names)) != len(names):
                    raise Failed("too large, or a name stands twice", "文件过大或重名")
                self.files = {name: archive.read(name) for name in names}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError):
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
        key = next((one for one in self.verifiers if one.name == note.verified[0].name), None)
        if key is None or not key.name.endswith("/records"):
            raise Failed("not sealed by a record key", "封签密钥不是记录密钥")
        self.record_key = key
        header, *lines = note.text.splitlines()
        listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        actual = {name: hashlib.sha256(held).hexdigest() for name, held in self.files.items() if name != "SEAL"}
        if header != HEADER or listed != actual:
            wrong = sorted(name for name in listed.keys() | actual.keys() if listed.get(name) != actual.get(name))
            raise Failed(
                f"changed, missing or added: {', '.join(wrong[:5])}", f"被改动、缺失或新增：{', '.join(wrong[:5])}"
            )
        self.told = json.loads(self.files["bundle.json"])
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
            at = stamped_at_ms(reply) // 1000
        except TimestampError as fault:
            raise Failed(str(fault), "时间戳无效") from None
        return (
            True,
            f"the authority saw the checkpoint at {at} (Unix seconds)",
            f"时间戳机构于 {at}（Unix 秒）见到该检查点",
        )

    def all(self) -> Iterator[dict[str, Any]]:
        """Every entry that has a proof: the person's, and the rules'."""
        yield from self.told["entries"]
        yield from self.told["packs"]

    def bodies(self) -> Iterator[dict[str, Any]]:
        """The person's readable records."""
        return (json.loads(entry["body"]) for entry in self.told["entries"] if "body" in entry)

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


def _packed(files: Mapping[str, bytes]) -> bytes:
    """The one container of these files: stored, by name, fixed headers."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, files[name])
    return held.getvalue()
