"""Exact refusal words, however they are typed."""

import pytest

from gateway.rules import pack as packs
from gateway.rules.pack import Pack
from gateway.rules.replies import refusal


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


@pytest.mark.parametrize(
    "text",
    [
        "R",
        "r",
        " R ",
        "Ｒ",
        "ｒ",
        "R。",
        "“R”",
        "T",
        "TD",
        "td",
        "ＴＤ",
        "T D",
        "t.d.",
        "N",
        "退订",
        "退 订",
        "退订！",
        "【退订】",
        "拒收",
        "拒收!!!",
        "取消",
        "取消订阅",
        "不要再发",
        "STOP",
        "stop",
        "Stop.",
        "ＳＴＯＰ",
        "UNSUBSCRIBE",
        "Opt out",
        "opt-out",
        "回T退订",
        "拒收请回复R",
        "回复TD退订",
        "退订\u200b",
        "\n退订\n",
        "退订🙏",
        "Ⓡ",
        "退訂",
    ],
)
def test_refusals(cn: Pack, text: str) -> None:
    assert refusal(text, cn)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "。",
        "🙏",
        "Y",
        "好的",
        "谢谢",
        "请不要退订",
        "怎么退订",
        "不退订",
        "Rr",
        "RT",
        "取消预约了吗",
        "don't stop",
        "TDD",
        "1",
        "收到",
        "R2D2",
    ],
)
def test_what_is_left_to_be_read(cn: Pack, text: str) -> None:
    assert not refusal(text, cn)


def test_every_word_and_text_of_the_pack_refuses(cn: Pack) -> None:
    for word in (*cn.table.refusal_words.words, *cn.table.refusal_text.accepted):
        assert refusal(word, cn)
    assert "" not in cn.refusal_words
