"""What replies mean, however they are typed: exact words, free text, and two labelled sets of what people write."""

import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.contract.decision import Class, Refusal
from gateway.contract.registry import Sender
from gateway.rules import content
from gateway.rules import pack as packs
from gateway.rules.answers import answer, language_of
from gateway.rules.likeness import Likeness, left
from gateway.rules.pack import Pack
from gateway.rules.phrases import MOST, PhraseError, Phrases
from gateway.rules.replies import Meaning, Read, read
from tests.replies.measure import SETS, measured, rows_of

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")


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
        "退\u200d订",
        "T\ufe0f",
        "\n退订\n",
        "退订🙏",
        "🛑 STOP 🛑",
        "Ⓡ",
        "退訂",
        "取消訂閱",
        "拒絕",
        "別再發了",
    ],
)
def test_exact_words_refuse(cn: Pack, text: str) -> None:
    assert read(text, cn) == Read(Meaning.REFUSAL)


@pytest.mark.parametrize(
    "text",
    [
        "别再给我发了",
        "不要发广告",
        "please stop texting me",
        "T，谢谢",
        "TD TD",
        "NNN",
        "unsubscirbe",
        "別再給我發了",
        "不要 退订",  # two sentences: no; leave
        "怎么退订",
        "不退订，别发了",
        "hi, T",
        "别给我妈发这些短信",
        "短信给我停了吧",
        "stop spaming me",
        "谁让你们发的",
    ],
)
def test_free_text_refuses_and_is_marked_as_inferred(cn: Pack, text: str) -> None:
    assert read(text, cn) == Read(Meaning.REFUSAL, inferred=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "。",
        "🙏",
        "好的",
        "谢谢",
        "请不要退订",
        "不退订",
        "Rr",
        "RT",
        "取消预约了吗",
        "don't stop",
        "hit",
        "我想退订明晚的酒店",
        "机票退订手续费多少",
        "别发圆通",
        "take me off the 3pm slot",
        "短信别停",
        "TDD",
        "1",
        "收到",
        "R2D2",
        "Y?",
        "是吗",
        "Yes please",
        "yes, 退货",
        "START HERE",
        "不同意",
        "不 是",
    ],
)
def test_what_means_nothing_of_this(cn: Pack, text: str) -> None:
    assert read(text, cn).meaning is Meaning.OTHER


@pytest.mark.parametrize("text", ["Y", " y ", "Ｙ。", "yes", "是", "同意", "回复Y", "確認", "START", "start!", "y👍"])
def test_exact_words_affirm(cn: Pack, text: str) -> None:
    assert read(text, cn) == Read(Meaning.AFFIRMATION)


@pytest.mark.parametrize(("text", "meaning"), [("A", Meaning.KEEP), ("ａ。", Meaning.KEEP), ("幫助", Meaning.HELP)])
def test_other_exact_words(cn: Pack, text: str, meaning: Meaning) -> None:
    assert read(text, cn) == Read(meaning)


@pytest.mark.parametrize("text", ["需要帮助", "请帮帮我", "help me please", "I need some help", "看不懂，求助"])
def test_free_text_calls_for_help(cn: Pack, text: str) -> None:
    assert read(text, cn) == Read(Meaning.HELP, inferred=True)


@pytest.mark.parametrize("text", ["帮我查一下物流", "can you help me change my address", "有帮助吗"])
def test_help_with_something_is_no_call_for_help(cn: Pack, text: str) -> None:
    assert read(text, cn).meaning is Meaning.OTHER


def test_a_file_of_others_labels(cn: Pack, tmp_path: Path) -> None:
    lines = ["yes\ten\tOK", "yes\tzh\t是", "keep\ten\tdon't stop", "refusal\ten\tstop", "help\tzh\t帮助"]
    (tmp_path / "b.tsv").write_text("\n".join(lines), "utf-8")
    rows = list(rows_of(tmp_path / "b.tsv", cn))
    assert [row.label for row in rows] == ["other", "affirm", "other", "refusal", "help"]
    assert not measured(rows, cn).wrong


def test_every_word_and_text_of_the_pack_means_what_its_list_says(cn: Pack) -> None:
    table = cn.table
    lists = {
        Meaning.REFUSAL: (*table.refusal_words.words, *table.refusal_text.accepted),
        Meaning.AFFIRMATION: table.affirmative_words.words,
        Meaning.KEEP: table.keep_words.words,
        Meaning.HELP: table.help_words.words,
    }
    for meaning, words in lists.items():
        for word in words:
            assert read(word, cn) == Read(meaning), word
    assert "" not in cn.refusal_words | cn.affirmative_words | cn.keep_words | cn.help_words


def test_the_tuned_set_is_read_as_it_is_labelled(cn: Pack) -> None:
    assert not measured(list(rows_of(SETS / "tuned.tsv", cn)), cn).wrong


def test_the_held_out_set_no_rule_was_tuned_on(cn: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(rows_of(SETS / "held_out.tsv", cn))
    all_rows = len(rows) + len(list(rows_of(SETS / "tuned.tsv", cn)))
    figures = measured(rows, cn)._replace(wrong=[])  # a failure prints the figures, never a line of the set
    with capsys.disabled():
        print(f"\nreplies held out, of {all_rows}: {figures}")
    assert len(rows) * 3 >= all_rows >= 300
    assert figures.recall >= 0.98
    assert figures.precision >= 0.97
    assert not figures.false_yes


def test_what_the_weights_are_learned_from_is_read_as_it_is_labelled_but_for_a_few(cn: Pack) -> None:
    rows = list(rows_of(SETS / "learned.tsv", cn))
    assert not {row.text for row in rows} & {row.text for row in rows_of(SETS / "held_out.tsv", cn)}
    figures = measured(rows, cn)
    assert figures.recall >= 0.96
    assert figures.precision >= 0.98
    assert not figures.false_yes


@pytest.mark.parametrize("text", ["remve me form ur list", "i dont wnat ur msgs", "别在给我法了", "不药再发了谢谢"])
def test_what_no_phrase_says_is_read_by_what_it_is_like(cn: Pack, text: str) -> None:
    assert read(text, cn) == Read(Meaning.REFUSAL, inferred=True)
    assert read(text, replace(cn, like=None)) == Read(Meaning.OTHER)


def test_what_takes_the_meaning_away_leaves_nothing_to_be_like(cn: Pack) -> None:
    kept = ["pls dont remove me form the list", "别给我取消订閱了", "撤回退订"]
    assert [read(text, cn).meaning for text in kept] == [Meaning.OTHER] * len(kept)
    assert left("a 撤回退订", cn.refusals) == "|a#|"
    assert [left(text, cn.refusals) for text in ("?", "13900000000", "Rr", "TDD")] == [None] * 4


def test_weights_that_are_not_those_of_the_pack_are_refused() -> None:
    written = "\t-20\na\t9\n"
    like = Likeness(written, sha256(written.encode()).hexdigest(), least=-15)
    assert [like.refuses(text) for text in ("a", "b", "ab")] == [True, False, True]  # -20 + 9, -20, -20 + 9 / sqrt(3)
    with pytest.raises(ValueError, match="not those that the pack names"):
        Likeness(written + "b\t9\n", sha256(written.encode()).hexdigest(), least=0)
    table = packs.load("cn").table
    for wrong in ({"sha256": "0" * 64}, {"weights": "none.tsv"}):
        like_table = table.free_text.like.model_copy(update=wrong)  # type: ignore[union-attr] # the pack has one
        free_text = table.free_text.model_copy(update={"like": like_table})
        with pytest.raises(packs.PackError, match=f"packs/{like_table.weights}"):
            packs.compiled(table.model_copy(update={"free_text": free_text}))


def test_nothing_but_an_exact_word_is_ever_a_yes(cn: Pack) -> None:
    for name in ("tuned.tsv", "held_out.tsv"):
        for label, text in rows_of(SETS / name, cn):
            assert (read(text, cn).meaning is Meaning.AFFIRMATION) == (label == "affirm"), text
            for around in (f"{text} 请发我资料", f"not {text}", f"{text}吗"):
                if label == "affirm":
                    assert read(around, cn).meaning is not Meaning.AFFIRMATION, around


@pytest.mark.parametrize(
    "piece",
    [
        "不要再给我",
        "别",
        "stop ",
        "dont fucking ",
        "退",
        "再",
        "please ",
        "a",
        "的",
        "|",
        "垃圾 ",
        "unsubscrib ",
        "textinx messaginx sendinx spamminx ",
        "收到不需要我的手机给我们你们的短信收到",
        "谁让你们的我的手机给",
        "need help ",
    ],
)
def test_no_text_takes_long(cn: Pack, piece: str) -> None:
    """An order above what such a text takes on a slow machine; catastrophic patterns take seconds."""
    text = piece * 4000
    began = time.perf_counter()
    for _ in range(3):
        read(text, cn)
    assert (time.perf_counter() - began) / 3 < 0.05


def test_what_stands_beyond_the_bound_is_not_read(cn: Pack) -> None:
    assert read("x" * MOST + " 退订", cn).meaning is Meaning.OTHER


@pytest.mark.parametrize("phrase", ["{none}", "^x", "a **", "", "..?", "!.."])
def test_a_phrase_that_is_not_of_the_notation(phrase: str) -> None:
    with pytest.raises(PhraseError):
        Phrases({}, [phrase], (), joined=True, near={})


def test_the_notation() -> None:
    words = {"no": ["别", "不要"], "send": ["发"]}
    say = Phrases(words, ["{no} 再? {send} !货", "^ 烦 $", "把 .. 删"], ["不是 {no}"], joined=True, near={})
    said = {"别发": True, "不要再发": True, "别再再发": False, "别发货": False, "不是别发": False, "烦！": True,
            "麻烦": False, "把我的号删了": True, "把我，删了": False}  # fmt: skip
    assert {text: say.said(text) for text in said} == said


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language"),
    [("T", "zh"), ("TD", "zh"), ("退订", "zh"), ("STOP", "en"), ("Stop it!", "en"), ("stop别发", "zh"), ("", "zh")],
)
def test_the_language_of_an_answer(cn: Pack, text: str, language: str) -> None:
    assert language_of(text, cn) == language


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("kind", ["marketing", "purpose", "sender", "keep", "help"])
def test_every_answer_names_the_sender_and_may_be_sent(cn: Pack, kind: str, language: str) -> None:
    text = answer(kind, ACME, language, cn)  # type: ignore[arg-type] # a word of the parameters
    purpose = cn.purposes[cn.table.answers.help if kind == "help" else cn.table.answers.opt_out]
    assert purpose.cls is Class.CONSENT
    composed = content.compose(text, ACME, purpose, cn)
    assert not isinstance(composed, Refusal), composed
    assert "Acme" in text
    assert composed.text == f"【Acme】{text}"
