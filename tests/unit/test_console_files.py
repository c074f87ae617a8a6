"""What is wrong with a file of complaints is said in the reader's words, whichever of its faults it is."""

from zoneinfo import ZoneInfo

import pytest

from gateway.console.files import explained
from gateway.console.wording import words
from gateway.rules.complaint_file import Bad, File, HeaderError, mapping
from gateway.rules.delimited import NOT_TEXT, TOO_LONG, UNENDED

NOW = 1_764_000_000_000
HEAD = "reporter,at,port,text,ref\n"
LINES = (
    "12,2025-01-01,,,",
    "13800138000,x,,,",
    "13800138000,1990-01-01,,,",
    "13800138000,2099-01-01,,,",
    "13800138000,2025-01-01,1,,",
    f"13800138000,2025-01-01,,{'x' * 5_000},",
    f"13800138000,2025-01-01,,,{'x' * 500}",
    'a"b"c,"d"e',
)
HEADS = ("", "port\n1\n", "at\n1\n", "reporter\n1\n")


def read(text: str) -> list[Bad]:
    file = File(mapping("own"), ZoneInfo("Asia/Shanghai"), NOW)
    found = [*file.push(text.encode()), *file.close()]
    return [one for one in found if isinstance(one, Bad)]


@pytest.mark.parametrize("line", LINES)
def test_a_lines_fault_is_said_in_chinese(line: str) -> None:
    (bad,) = read(HEAD + line + "\n")
    assert not explained(words("zh"), bad.message).isascii(), bad.message


@pytest.mark.parametrize("text", HEADS)
def test_a_files_fault_is_said_in_chinese(text: str) -> None:
    with pytest.raises(HeaderError) as fault:
        read(text)
    assert not explained(words("zh"), str(fault.value)).isascii(), fault.value


def test_the_cutters_faults_are_too() -> None:
    assert not any(explained(words("zh"), one).isascii() for one in (NOT_TEXT, TOO_LONG, UNENDED))
    assert explained(words("zh"), "something new") == "something new"
