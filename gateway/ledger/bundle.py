"""One file of evidence: a ZIP whose every byte is checked, with a seal over everything in it.

Files are stored uncompressed, in the order of their names, with fixed headers, so the same content is always the same
file and any program opens it. `SEAL` is a signed note (C2SP signed-note) by the installation's record key over the
SHA-256 of every other file: the message's decision and receipts are in no log, and are vouched for by it.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping

from gateway.ledger.note import Signer, sign

SEAL = "SEAL"
HEADER = "assent evidence bundle v1"
EPOCH = (1980, 1, 1, 0, 0, 0)
FILE_MODE = 0o100644 << 16
UNIX = 3


def seal(files: Mapping[str, bytes], signer: Signer) -> bytes:
    """The bundle of these files."""
    lines = [HEADER, *(f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files))]
    return packed({**files, SEAL: sign("\n".join(lines) + "\n", [signer])})


def packed(files: Mapping[str, bytes]) -> bytes:
    """The one ZIP of these files."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = UNIX, FILE_MODE
            archive.writestr(entry, files[name])
    return held.getvalue()
