"""Measures how a labelled file of replies is read: `python -m tests.replies.measure FILE [--misses] [--rows]`.

A line is `label <tab> reply`, as in the sets of this directory, or `label <tab> language <tab> reply`, as people who do
not know the rules write them: there `keep` means "go on sending", so the reply must not refuse, and `yes` is any
agreement, of which only an exact word of the pack may be read as one. `--misses` prints what is read otherwise than it
is labelled; `--rows` prints the lines in the form of the sets, without what a set has already.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.rules import pack as packs
from gateway.rules.pack import Pack
from gateway.rules.phrases import plain
from gateway.rules.replies import Meaning, read
from gateway.rules.wording import bare

SETS = Path(__file__).parent
LABELS = {"refusal": Meaning.REFUSAL, "keep": Meaning.KEEP, "affirm": Meaning.AFFIRMATION, "help": Meaning.HELP,
          "other": Meaning.OTHER}  # fmt: skip
FOREIGN = {"refusal": "refusal", "keep": "other", "help": "help", "other": "other"}
"""Labels of those who do not know the rules, but for `yes`."""


class Row(NamedTuple):
    """A reply and what it means, by the labels of the sets."""

    label: str
    text: str


class Figures(NamedTuple):
    """How rows were read. `false_yes`: read as a yes without being one. `wrong`: read otherwise than labelled."""

    rows: int
    refusals: int
    recall: float
    precision: float
    false_yes: int
    help_found: int
    helps: int
    wrong: list[tuple[Row, Meaning]]

    def __str__(self) -> str:
        return (
            f"{self.rows} replies; refusals {self.refusals}, recall {self.recall:.4f}, precision {self.precision:.4f}; "
            f"read as a yes without being one: {self.false_yes}; calls for help {self.help_found} of {self.helps}"
        )


def rows_of(path: Path, pack: Pack) -> Iterator[Row]:
    """The rows of a file, in the labels of the sets."""
    for line in path.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        label, first, *rest = line.split("\t")
        if not rest:
            yield Row(label, first)
        elif label == "yes":
            exact = bare(plain(rest[0], pack.same)) in pack.affirmative_words
            yield Row("affirm" if exact else "other", rest[0])
        else:
            yield Row(FOREIGN[label], rest[0])


def measured(rows: list[Row], pack: Pack) -> Figures:
    """How the rows are read by a pack."""
    found = [(row, read(row.text, pack).meaning) for row in rows]
    refusals = sum(row.label == "refusal" for row in rows)
    ended = sum(meaning is Meaning.REFUSAL for _, meaning in found)
    hits = sum(row.label == "refusal" and meaning is Meaning.REFUSAL for row, meaning in found)
    return Figures(
        rows=len(rows),
        refusals=refusals,
        recall=hits / max(refusals, 1),
        precision=hits / max(ended, 1),
        false_yes=sum(row.label != "affirm" and meaning is Meaning.AFFIRMATION for row, meaning in found),
        help_found=sum(row.label == "help" and meaning is Meaning.HELP for row, meaning in found),
        helps=sum(row.label == "help" for row in rows),
        wrong=[(row, meaning) for row, meaning in found if meaning is not LABELS[row.label]],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--rows", action="store_true")
    asked = parser.parse_args()
    pack = packs.load("cn")
    rows = list(rows_of(asked.file, pack))
    if asked.rows:
        had = {row.text for name in ("tuned.tsv", "held_out.tsv") for row in rows_of(SETS / name, pack)}
        print("\n".join(f"{row.label}\t{row.text}" for row in dict.fromkeys(rows) if row.text not in had))
        return
    figures = measured(rows, pack)
    print(figures)
    if asked.misses:
        print("\n".join(f"{row.label}\tread as {meaning}\t{row.text}" for row, meaning in figures.wrong))


if __name__ == "__main__":
    main()
