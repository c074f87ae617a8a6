"""A message's text as it will be sent: signature, refusal text, words, length, and the parts it is sent in.

Pure: a text that breaks a rule of the pack is a `Refusal`, whose detail never quotes the text. The order of checks is
fixed: signature, emptiness, brackets, refusal text, promotional words, length; a body too long by itself is refused
before its words are looked at.
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
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
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
    longest = pack.table.length.max
    if len(body) > longest:
        return _too_long(len(body), longest)
    plain = fold(body) if rare(body) else body
    tail = _tail(body, plain, purpose, pack)
    if isinstance(tail, Refusal):
        return tail
    if not purpose.promotional:
        word = _promotional(plain, purpose, pack)
        if word is None and plain is not body:
            word = _promotional(body, purpose, pack)
        if word is not None:
            return Refusal(Code.CONTENT_PROMOTIONAL, f"contains {word!r}")
    mark = pack.table.signature
    whole = f"{mark.open}{sender.signature}{mark.close}{body}{tail}"
    encoding, units, parts = count_parts(whole)
    length = units if encoding == "ucs2" else len(whole)
    return Content(whole, parts, encoding) if length <= longest else _too_long(length, longest)


def _too_long(length: int, longest: int) -> Refusal:
    return Refusal(
        Code.CONTENT_TOO_LONG, f"{length} characters; {longest} allowed, signature and refusal text included"
    )


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


def _tail(body: str, plain: str, purpose: Purpose, pack: Pack) -> str | Refusal:
    """What is still to be added: the refusal text where the purpose requires one and the body does not end with it."""
    if purpose.refusal_text == "optional":
        return ""
    if purpose.refusal_text == "forbidden":
        if pack.refusal_hints.found(plain):
            return Refusal(Code.CONTENT_REFUSAL_TEXT, f"{purpose.name} carries no refusal text")
        return ""
    spans = [found.span() for found in pack.refusal_texts.matches(plain)]
    if not spans:
        # A blank keeps a link or a Latin word at the end from running into the refusal text.
        return f" {pack.refusal_text}" if body[-1].isascii() else pack.refusal_text
    last = max(end for _, end in spans)
    if last != len(plain):
        return Refusal(Code.CONTENT_REFUSAL_TEXT, "the refusal text is not last")
    start = min(start for start, end in spans if end == last)
    return "" if plain[:start].strip(BLANK) else Refusal(Code.CONTENT_EMPTY, "nothing but the refusal text")


def _promotional(text: str, purpose: Purpose, pack: Pack) -> str | None:
    """A promotional word that no exception covers, as the pack spells it."""
    covered: set[int] | None = None
    for found in pack.promotional.matches(text):
        if covered is None:
            covered = {at for exempt in purpose.exceptions.matches(text) for at in range(*exempt.span())}
        if covered.isdisjoint(range(*found.span())):
            return "".join(letter for letter in fold(found[0]) if letter not in BLANK)
    return None


def count_parts(text: str) -> tuple[Encoding, int, int]:
    """How a text goes on the wire: encoding, units in it (septets, or UTF-16 units), parts.

    An escape and its character, and the halves of a surrogate pair, never stand in different parts.
    """
    if _OTHER.search(text):
        if len(text) <= _SINGLE["ucs2"] and not _ASTRAL.search(text):
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
