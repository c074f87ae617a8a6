"""Replies that refuse.

Pure. Only the exact words of the pack count here, whatever their case, width, spaces and punctuation: such a reply
withdraws without anyone reading it. What a person means in free text is decided elsewhere.
"""

from gateway.rules.pack import Pack
from gateway.rules.wording import bare


def refusal(text: str, pack: Pack) -> bool:
    """Whether a reply is one of the pack's refusal words and nothing else."""
    return bare(text) in pack.refusal_words
