"""A message's text as it will be sent: signature, refusal text, words, length, and the parts it is sent in.

Pure: a text that breaks a rule of the pack is a `Refusal`, whose detail never quotes the text. The order of checks is
fixed: signature, emptiness, brackets, refusal text, promotional words, length.
"""

import re
from typing import Literal, NamedTuple

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.registry import Sender
from gateway.rules.pack import Pack, Purpose
from gateway.rules.wording import BLANK, fold, rare

Encoding = Literal["gsm7", "ucs2"]

# 3GPP TS 23.038 §6.2.1 and §6.2.1.1: the default alphabet without ESC, and the characters of its extension table.
GSM7 = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION = "\f^{}\\[~]|€"

_OTHER = re.compile(f"[^{re.escape(GSM7 + GSM7_EXTENSION)}]")
_EXTENSION = re.compile(f"[{re.escape(GSM7_EXTENSION)}]")
_ESCAPE = "\x1b"
_SINGLE = {"gsm7": 160, "ucs2": 70}
_JOINED = {"gsm7": 153, "ucs2": 67}
_ASTRAL = "\U00010000"
_HIGH = range(0xD8, 0xDC)  # first bytes of the two halves of a surrogate pair
_LOW = range(0xDC, 0xE0)


class Content(NamedTuple):
    """A text ready to send, and what it takes on the wire."""

    text: str
    parts: int
    encoding: Encoding


def compose(text: str, sender: Sender, purpose: Purpose, pack: Pack) -> Content | Refusal:
    """The text with its signature and refusal text, or why it may not be sent for this purpose."""
    body = _unsigned(text, sender, pack)
    if isinstance(body, Refusal):
        return body
    ended = _ended(body, purpose, pack)
    if isinstance(ended, Refusal):
        return ended
    if not purpose.promotional and (word := _promotional(ended, purpose, pack)):
        return Refusal(Code.CONTENT_PROMOTIONAL, f"contains {word!r}")
    mark = pack.table.signature
    whole = f"{mark.open}{sender.signature}{mark.close}{ended}"
    encoding, units, parts = count_parts(whole)
    length = units if encoding == "ucs2" else len(whole)
    if length > pack.table.length.max:
        return Refusal(
            Code.CONTENT_TOO_LONG,
            f"{length} characters with signature and refusal text; {pack.table.length.max} allowed",
        )
    return Content(whole, parts, encoding)


def _unsigned(text: str, sender: Sender, pack: Pack) -> str | Refusal:
    """The body without the sender's own leading signature and without blanks around it."""
    mark = pack.table.signature
    if not mark.min <= len(sender.signature) <= mark.max:
        return Refusal(Code.CONTENT_SIGNATURE, f"the sender's signature must have {mark.min} to {mark.max} characters")
    body = text.strip(BLANK)
    if body.startswith(mark.open):
        signed = f"{mark.open}{sender.signature}{mark.close}"
        if not body.startswith(signed):
            code = Code.CONTENT_SIGNATURE if mark.close in body else Code.CONTENT_BRACKETS
            return Refusal(code, f"the sender's signature is {signed}")
        body = body[len(signed) :].lstrip(BLANK)
    if not body:
        return Refusal(Code.CONTENT_EMPTY)
    if mark.open in body or mark.close in body:
        return Refusal(Code.CONTENT_BRACKETS)
    return body


def _ended(body: str, purpose: Purpose, pack: Pack) -> str | Refusal:
    """The body as it ends: with the refusal text where the purpose requires one, without where it forbids it."""
    if purpose.refusal_text == "optional":
        return body
    if purpose.refusal_text == "forbidden":
        if _spans(pack.refusal_hints, body):
            return Refusal(Code.CONTENT_REFUSAL_TEXT, f"{purpose.name} carries no refusal text")
        return body
    plain = fold(body) if rare(body) else body
    spans = [found.span() for found in pack.refusal_texts.finditer(plain)]
    if not spans:
        # A blank keeps a link or a Latin word at the end from running into the refusal text.
        return f"{body} {pack.refusal_text}" if body[-1].isascii() else body + pack.refusal_text
    start, end = spans[-1]
    if end != len(plain):
        return Refusal(Code.CONTENT_REFUSAL_TEXT, "the refusal text is not last")
    return body if plain[:start].strip(BLANK) else Refusal(Code.CONTENT_EMPTY, "nothing but the refusal text")


def _spans(words: re.Pattern[str], text: str) -> bool:
    return words.search(text) is not None or (rare(text) and words.search(fold(text)) is not None)


def _promotional(body: str, purpose: Purpose, pack: Pack) -> str | None:
    """The first promotional word that no exception covers, as folded."""
    word = _uncovered(pack.promotional, purpose.exceptions, body)
    if word is None and rare(body):
        word = _uncovered(pack.promotional, purpose.exceptions, fold(body))
    return word


def _uncovered(words: re.Pattern[str], exceptions: re.Pattern[str], text: str) -> str | None:
    found = words.search(text)
    if found is None:
        return None
    covered = [span.span() for span in exceptions.finditer(text)]
    while found is not None:
        start, end = found.span()
        if not any(first < end and start < last for first, last in covered):
            return "".join(filter(lambda letter: letter not in BLANK, fold(found[0])))
        found = words.search(text, start + 1)
    return None


def count_parts(text: str) -> tuple[Encoding, int, int]:
    """How a text goes on the wire: encoding, units in it (septets, or UTF-16 units), parts.

    An escape and its character, and the halves of a surrogate pair, never stand in different parts.
    """
    if _OTHER.search(text):
        if len(text) <= _SINGLE["ucs2"] and max(text) < _ASTRAL:
            return "ucs2", len(text), 1
        raw = text.encode("utf-16-be", "surrogatepass")
        return "ucs2", len(raw) // 2, _ucs2_parts(raw)
    if not _EXTENSION.search(text):
        units = len(text)
        return "gsm7", units, 1 if units <= _SINGLE["gsm7"] else -(-units // _JOINED["gsm7"])
    escaped = _EXTENSION.sub(_ESCAPE + "x", text)
    return "gsm7", len(escaped), _gsm7_parts(escaped)


def _gsm7_parts(escaped: str) -> int:
    if len(escaped) <= _SINGLE["gsm7"]:
        return 1
    parts, at = 0, 0
    while at < len(escaped):
        parts, at = parts + 1, at + _JOINED["gsm7"]
        if at < len(escaped) and escaped[at - 1] == _ESCAPE:
            at -= 1
    return parts


def _ucs2_parts(raw: bytes) -> int:
    units = len(raw) // 2
    if units <= _SINGLE["ucs2"]:
        return 1
    parts, at = 0, 0
    while at < units:
        parts, at = parts + 1, at + _JOINED["ucs2"]
        if at < units and raw[2 * at] in _LOW and raw[2 * at - 2] in _HIGH:
            at -= 1
    return parts
