"""What the gateway itself answers to a reply: which text, in whose name, in which language.

Pure. The words are the pack's; the signature and what else a text needs are added where it is sent.
"""

from typing import Literal

from gateway.contract.registry import Sender
from gateway.rules.pack import Pack

Kind = Literal["marketing", "purpose", "sender", "keep", "help"]
WORD = 4
"""Latin letters in a row that make a text English; `TD` and `T` are written by everybody."""


def language_of(text: str, pack: Pack) -> str:
    """The language to answer a reply in: English to English words alone, else the pack's first."""
    texts = pack.table.answers.texts
    first = next(iter(texts))
    letters = [one for one in text if one.isalpha()]
    english = len(letters) >= WORD and all(one.isascii() for one in letters)
    return "en" if english and "en" in texts else first


def answer(kind: Kind, sender: Sender, language: str, pack: Pack) -> str:
    """The text of an answer, without the signature."""
    text: str = getattr(pack.table.answers.texts[language], kind)
    return text.replace("{sender}", sender.signature)
