"""Replies that refuse, and replies that confirm.

Pure. Only the exact words of the pack count here, whatever their case, width, spaces and punctuation: such a reply
withdraws without anyone reading it. What a person means in free text is decided elsewhere. An affirmative word means
something only to somebody who was asked a moment ago; whether they were is `settle`'s to know.
"""

from gateway.rules.pack import Pack
from gateway.rules.wording import bare


def refusal(text: str, pack: Pack) -> bool:
    """Whether a reply is one of the pack's refusal words and nothing else."""
    return bare(text) in pack.refusal_words


def affirmation(text: str, pack: Pack) -> bool:
    """Whether a reply is one of the pack's affirmative words and nothing else."""
    return bare(text) in pack.affirmative_words
