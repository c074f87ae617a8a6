"""Files of complaints: cut into records in bounded memory, read by a mapping, bad lines told and the rest taken."""

import csv
import io
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records.sheet import shielded
from gateway.rules.complaint_file import MAPPINGS, Bad, File, HeaderError, Line, columns, mapping, read_port, read_time
from gateway.rules.delimited import MOST_BYTES, TOO_LONG, UNENDED, Decoder, Records

ZONE = ZoneInfo("Asia/Shanghai")
NOW = int(datetime(2025, 11, 25, 9, 0, tzinfo=ZONE).timestamp() * 1000)
EXPORT = '''举报编号,举报号码,被举报号码,举报时间,举报内容
JB001,13800000001,10690002,2025-11-24 20:01:02,【Acme】双十一全场五折
JB002,="13800000002",'8610690002,2025/11/24 20:05,"第一行
第二行,带逗号和""引号"""
JB003,+86 138-0000-0003,,2025年11月24日 20时06分,
'''


def cut(data: bytes, size: int = 1 << 20) -> list[tuple[int, bytes, str | None]]:
    records, found = Records(), []
    for first in range(0, len(data), size):
        found += records.push(data[first : first + size])
    return [tuple(one) for one in [*found, *records.close()]]


def read(data: bytes, name: str = "12321", size: int = 1 << 20, encoding: str | None = None) -> list[Line | Bad]:
    file, found = File(mapping(name), ZONE, NOW, encoding), []
    for first in range(0, len(data), size):
        found += file.push(data[first : first + size])
    return [*found, *file.close()]


def at(*when: int) -> int:
    return int(datetime(2025, *when, tzinfo=ZONE).timestamp() * 1000)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_an_export_is_read_whatever_its_encoding_and_pieces(encoding: str, size: int) -> None:
    found = read(EXPORT.replace("\n", "\r\n").encode(encoding), size=size)
    assert all(isinstance(one, Line) for one in found)
    told = [one.told for one in found if isinstance(one, Line)]
    assert [(one.number, one.port, one.ref, one.at_ms) for one in told] == [
        ("+8613800000001", "10690002", "JB001", at(11, 24, 20, 1, 2)),
        ("+8613800000002", "10690002", "JB002", at(11, 24, 20, 5)),
        ("+8613800000003", None, "JB003", at(11, 24, 20, 6)),
    ]
    assert [one.text.replace("\r\n", "\n") for one in told] == [
        "【Acme】双十一全场五折",
        '第一行\n第二行,带逗号和"引号"',
        "",
    ]
    assert {one.source for one in told} == {"12321"}


CELLS = st.text(st.sampled_from('ab,"\n 五\r'), max_size=6)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=8), st.integers(1, 40), st.booleans())
def test_records_are_what_csv_reads_in_pieces_of_any_size(rows: list[list[str]], size: int, gb: bool) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    encoding = "gb18030" if gb else "utf-8"
    found = cut(out.getvalue().encode(encoding), size)
    assert [fault for *_, fault in found] == [None] * len(rows)
    assert [next(csv.reader([raw.decode(encoding)])) for _, raw, _ in found] == rows


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_cut_the_same_in_any_pieces(data: bytes, size: int) -> None:
    found = cut(data, size)
    assert found == cut(data)
    lines = [line for line, *_ in found]
    assert lines == sorted(set(lines))


@given(st.binary(max_size=300))
def test_any_bytes_after_a_header_are_lines_or_bad_lines(data: bytes) -> None:
    for one in read("举报号码,举报时间,举报内容\n".encode() + data):
        assert isinstance(one, Line | Bad)


def test_a_stray_quote_is_one_bad_line() -> None:
    good = b"a,b\n"
    found = cut(b'a,"b\n' + good * 300)
    assert found[0] == (1, b'a,"b', UNENDED)
    assert [fault for *_, fault in found[1:]] == [None] * 300
    assert [line for line, *_ in found] == list(range(1, 302))


def test_a_line_without_end_is_one_bad_line_and_is_not_kept() -> None:
    records, found, most = Records(), [], 0
    for _ in range(100):
        found += records.push(b"x" * 10_000)
        most = max(most, len(records._partial))
    found += records.push(b"\na,b\n")
    assert [(one.line, one.fault) for one in found] == [(1, TOO_LONG), (2, None)]
    assert most <= MOST_BYTES


def test_a_hundred_thousand_lines_are_read_in_a_few_hundred_kilobytes() -> None:
    def lines() -> Iterator[bytes]:
        yield "举报编号,举报号码,被举报号码,举报时间,举报内容\n".encode()
        for n in range(100_000):
            line = f"JB{n},138{n:08},10690002,2025-11-24 20:00:00,双十一全场五折，满300减50\n"
            yield ("不是号码,x,y,z,w\n" if n % 10 else line).encode()

    file, counts = File(mapping("12321"), ZONE, NOW), {Line: 0, Bad: 0}
    try:
        for n, piece in enumerate(lines()):
            if n == 90_000:  # the last tenth would keep a megabyte, if anything were kept; tracing all takes long
                tracemalloc.start()
            for one in file.push(piece):
                counts[type(one)] += 1
        for one in file.close():
            counts[type(one)] += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts == {Line: 10_000, Bad: 90_000}
    assert peak < 200_000


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("JB,12345,10690002,2025-11-24 20:00:00,x", "reporter"),
        ("JB,1.38E+10,10690002,2025-11-24 20:00:00,x", "reporter"),
        ("JB,13800000001,12,2025-11-24 20:00:00,x", "port"),
        ("JB,13800000001,端口,2025-11-24 20:00:00,x", "port"),
        ("JB,13800000001,10690002,昨天,x", "at"),
        ("JB,13800000001,10690002,2025-11-26 20:00:00,x", "at"),
        ("JB,13800000001,10690002,1970-01-01 00:00:00,x", "at"),
        ("JB,13800000001", "at"),
        ("JB,13800000001,10690002,2025-11-24 20:00:00," + "长" * 4001, "text"),
        ("合计,3", "reporter"),
        ("JB,13800000001,10690002,2025-11-24 20:00:00,骚扰,别再发了", None),
        ('JB,"13800000001"x,10690002,2025-11-24 20:00:00,x', None),
    ],
)
def test_a_bad_line_is_told_without_what_it_holds_and_the_next_one_is_read(line: str, field: str | None) -> None:
    bad, good = read(f"{EXPORT.splitlines()[0]}\n{line}\n{EXPORT.splitlines()[1]}\n".encode())
    assert isinstance(bad, Bad)
    assert (bad.line, bad.field) == (2, field)
    assert isinstance(good, Line)
    assert not any(cell and cell in bad.message for cell in line.split(","))


def test_lines_in_another_encoding_or_with_nul_are_bad() -> None:
    head, good = EXPORT.encode().splitlines(keepends=True)[:2]
    found = read(head + good + "JB,13800000001,10690002,2025-11-24 20:00:00,测".encode("gb18030") + b"\n" + good)
    assert [type(one) for one in found] == [Line, Bad, Line]
    assert isinstance(read(head + good.replace(b"JB001", b"J\0B"))[0], Bad)
    assert Decoder("utf-8").text(b"\xff") is None


def test_a_marked_file_is_utf_8_though_its_first_words_are_cut_within_a_character() -> None:
    said = "请不要再发".encode()
    head = b"\xef\xbb\xbfreporter,at,text\n"
    lines = [b"13800000001,2025-11-24 20:00:00," + words + b"\n" for words in (said[:-1], said)]
    cut_off, whole = read(head + b"".join(lines), "own")
    assert isinstance(cut_off, Bad)
    assert isinstance(whole, Line)
    assert whole.told.text == said.decode()


def test_empty_cells_behind_the_last_column_are_none() -> None:
    head, good = EXPORT.splitlines()[:2]
    (one,) = read(f"{head}\n{good},,\n".encode())
    assert isinstance(one, Line)


def test_what_is_no_file_of_complaints_is_refused_at_once() -> None:
    for data in (b"", b"\n\n", b"a,b,c\n1,2,3\n", "举报号码,内容\n".encode(), b"\xff\xfe1\x003\x00", b"\x89PNG\r\n"):
        with pytest.raises(HeaderError):
            read(data)
    with pytest.raises(HeaderError):
        read(EXPORT.encode("gb18030"), encoding="utf-8")
    with pytest.raises(HeaderError):
        read(EXPORT.encode(), encoding="utf-16")


def test_columns_can_be_named() -> None:
    meant = columns("reporter:手机, at:when", "carrier")
    file = File(meant, ZONE, NOW)
    (one,) = [*file.push("when,手机\n2025-11-24T20:00:00+08:00,13800000001\n".encode()), *file.close()]
    assert isinstance(one, Line)
    assert (one.told.source, one.told.at_ms, one.told.port) == ("carrier", at(11, 24, 20), None)
    assert columns("port:号码", None, mapping("12321")).names["port"] == ("号码",)
    for named, source in (("reporter:a", "own"), ("x:a", "own"), ("reporter", "own"), ("reporter:a,at:b", "press")):
        with pytest.raises(HeaderError):
            columns(named, source)
    with pytest.raises(HeaderError):
        mapping("../12321")


@pytest.mark.parametrize("name", MAPPINGS)
def test_every_mapping_names_what_is_needed_and_no_header_twice(name: str) -> None:
    meant = mapping(name)
    assert meant.source == name
    headers = [header for names in meant.names.values() for header in names]
    assert len(headers) == len(set(headers))
    assert {"reporter", "at"} <= meant.names.keys()


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("2025-11-24", at(11, 25) - 1),
        ("20251125", NOW),
        ("2025-11-24T20:00:00Z", at(11, 25, 4)),
        ("2025-11-24T20:00:00.250", at(11, 24, 20) + 250),
        ("20251124200102", at(11, 24, 20, 1, 2)),
        ("", None),
        ("45985.5", None),
    ],
)
def test_times(written: str, ms: int | None) -> None:
    assert read_time(written, ZONE, NOW) == ms


@pytest.mark.parametrize(
    ("written", "port"),
    [("10690002", "10690002"), (" +86 1069 0002 ", "10690002"), ("8695555", "95555"), ("１２３４５", "12345"),
     ("8613800000001", "8613800000001"), ("", ""), ("10", None), ("1" * 25, None), ("106x", None)],
)  # fmt: skip
def test_ports(written: str, port: str | None) -> None:
    assert read_port(written) == port


@pytest.mark.parametrize("never", ["9999-12-31", "9999年12月31日", "9999-12-31T23:59:59-12:00"])
def test_a_date_at_the_end_of_time_is_a_bad_line_and_not_the_end_of_the_file(never: str) -> None:
    lines = f"举报号码,举报时间\n13800000001,{never}\n13800000002,2025-11-24 20:05\n"
    bad, good = read(lines.encode())
    assert isinstance(bad, Bad)
    assert bad.field == "at"
    assert isinstance(good, Line)
    assert good.told.number == "+8613800000002"


@pytest.mark.parametrize("written", ['="13800000001"', "+8613800000001", "'13800000001"])
def test_a_cell_that_the_report_of_rejects_has_shielded_is_read_as_before(written: str) -> None:
    cell = shielded(written).replace('"', '""')
    (found,) = read(f'举报号码,举报时间\n"{cell}",2025-11-24 20:05\n'.encode())
    assert isinstance(found, Line)
    assert found.told.number == "+8613800000001"


@pytest.mark.parametrize("written", ["=1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "＠SUM(1)"])
def test_no_cell_of_a_report_is_a_formula(written: str) -> None:
    assert shielded(written) == "'" + written
