"""What a text must and must not contain, and the parts it is sent in."""

import pytest

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.registry import Sender
from gateway.rules import pack as packs
from gateway.rules.content import Content, compose, count_parts
from gateway.rules.pack import Pack

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
NOTICE, MARKETING, OPTIONAL = "transaction.shipping", "marketing.promotion", "consent.confirm"


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


def sent(cn: Pack, text: str, purpose: str = NOTICE, sender: Sender = ACME) -> str | Code:
    made = compose(text, sender, cn.purposes[purpose], cn)
    return made.text if isinstance(made, Content) else made.code


def test_every_example_of_the_pack_is_sent(cn: Pack) -> None:
    for purpose in cn.purposes.values():
        made = compose(purpose.example, ACME, purpose, cn)
        assert isinstance(made, Content), (purpose.name, made)
        assert made.text.startswith("【Acme】")
        assert made.text.endswith("拒收请回复R") is (purpose.refusal_text == "required")
        assert compose(made.text, ACME, purpose, cn) == made, "composing what was composed changes nothing"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("订单已发货", "【Acme】订单已发货"),
        ("【Acme】订单已发货", "【Acme】订单已发货"),
        ("  【Acme】 订单已发货\n", "【Acme】订单已发货"),
        ("\u200b【Acme】订单已发货\ufeff", "【Acme】订单已发货"),
        ("【acme】订单已发货", Code.CONTENT_SIGNATURE),
        ("【Birch】订单已发货", Code.CONTENT_SIGNATURE),
        ("【Acme 】订单已发货", Code.CONTENT_SIGNATURE),
        ("【】订单已发货", Code.CONTENT_SIGNATURE),
        ("【Acme订单已发货", Code.CONTENT_BRACKETS),
        ("订单【A1】已发货", Code.CONTENT_BRACKETS),
        ("订单已发货【Acme】", Code.CONTENT_BRACKETS),
        ("【Acme】【Acme】订单已发货", Code.CONTENT_BRACKETS),
        ("订单】已发货", Code.CONTENT_BRACKETS),
        ("", Code.CONTENT_EMPTY),
        (" \t\n\u3000\u200b", Code.CONTENT_EMPTY),
        ("【Acme】", Code.CONTENT_EMPTY),
        ("【Acme】 \u200b", Code.CONTENT_EMPTY),
    ],
)
def test_signature_brackets_and_emptiness(cn: Pack, text: str, result: str | Code) -> None:
    assert sent(cn, text) == result


@pytest.mark.parametrize(("signature", "fits"), [("A", False), ("AB", True), ("一" * 16, True), ("一" * 17, False)])
def test_a_signature_has_2_to_16_characters(cn: Pack, signature: str, fits: bool) -> None:
    sender = ACME.model_copy(update={"signature": signature})
    assert sent(cn, "订单已发货", sender=sender) == (f"【{signature}】订单已发货" if fits else Code.CONTENT_SIGNATURE)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("新品到店。", "【Acme】新品到店。拒收请回复R"),
        ("新品到店 https://acme.cn/n", "【Acme】新品到店 https://acme.cn/n 拒收请回复R"),
        ("新品到店，拒收请回复R", "【Acme】新品到店，拒收请回复R"),
        ("新品到店，拒收请回复r ", "【Acme】新品到店，拒收请回复r"),
        ("新品到店，拒收请回复Ｒ", "【Acme】新品到店，拒收请回复Ｒ"),
        ("新品到店，回T退订", "【Acme】新品到店，回T退订"),
        ("新品到店，退订回T", "【Acme】新品到店，退订回T"),
        ("新品到店，回复TD退订", "【Acme】新品到店，回复TD退订"),
        ("新品到店，退订 回 TD", "【Acme】新品到店，退订 回 TD"),
        ("回T退订，新品到店，拒收请回复R", "【Acme】回T退订，新品到店，拒收请回复R"),
        ("拒收请回复R，新品到店", Code.CONTENT_REFUSAL_TEXT),
        ("新品到店，退订回T，详见官网", Code.CONTENT_REFUSAL_TEXT),
        ("新品到店，拒收请回复R。", Code.CONTENT_REFUSAL_TEXT),
        ("拒收请回复R", Code.CONTENT_EMPTY),
    ],
)
def test_marketing_ends_with_its_refusal_text(cn: Pack, text: str, result: str | Code) -> None:
    assert sent(cn, text, MARKETING) == result


@pytest.mark.parametrize(
    "text",
    [
        "订单已发货，回T退订",
        "订单已发货，拒收请回复R",
        "拒 收 请 回 复 R 订单已发货",
        "退\u200b订回ＴＤ",
        "Reply STOP to unsubscribe",
    ],
)
def test_codes_and_notices_carry_no_refusal_text(cn: Pack, text: str) -> None:
    for purpose in (row for row in cn.purposes.values() if row.refusal_text == "forbidden"):
        assert sent(cn, text, purpose.name) == Code.CONTENT_REFUSAL_TEXT


def test_refusal_text_is_free_where_it_is_optional(cn: Pack) -> None:
    assert sent(cn, "确认请回复Y", OPTIONAL) == "【Acme】确认请回复Y"
    assert sent(cn, "确认请回复Y，拒收请回复R", OPTIONAL) == "【Acme】确认请回复Y，拒收请回复R"


PROMOTIONAL = [
    "订单已发货，下单享优惠",
    "全场5折",
    "全场８折起",
    "满减活动",
    "特价商品",
    "今日秒杀",
    "双11来了",
    "双 1 1 来了",
    "双十一来了",
    "领券下单",
    "优 惠",
    "优\u200b惠",
    "优\u3000惠",
    "优\n惠",
    "優惠",
    "⓼折促销",
    "SALE now on",
    "ＳＡＬＥ",
    "s a l e",
    "20% off",
    "20％ＯＦＦ",
    "𝐒𝐀𝐋𝐄",
    "Ⓢⓐⓛⓔ",
    "Coupons inside",
    "你的红包待领取",
    "优惠金额12元，更多优惠请看官网",
    "SALE now，您的三折叠手机已发货",
    "三折叠手机五折",
    "Flash  Sale",
]
PLAIN = [
    "您的订单已发货",
    "退款12元已到账",
    "您的退款订单已受理",
    "该产品具有独特价值",
    "加大促进力度",
    "重大促进",
    "已成立减灾小组",
    "您的三折叠手机已发货",
    "骨折护理预约成功",
    "优惠金额12元已退回",
    "优惠券已退回您的账户",
    "红包退款1元",
    "京东限时达订单已送达",
    "免费维修已完成",
    "含赠品1件",
    "应付618元",
    "订单号618123",
    "双110千伏线路检修",
    "after-sale service",
    "After sale care",
    "wholesale order",
    "salesforce login",
    "Customs clearance is done",
    "It is off",
    "salebrate",
    "房屋折旧单已寄出",
]


@pytest.mark.parametrize("text", PROMOTIONAL)
def test_promotional_words_are_for_marketing(cn: Pack, text: str) -> None:
    for name in (NOTICE, "verification.code", "consent.opt_out_ack", "membership.points"):
        assert sent(cn, text, name) == Code.CONTENT_PROMOTIONAL
    assert isinstance(sent(cn, text, MARKETING), str)
    assert not isinstance(sent(cn, text, MARKETING), Code)


@pytest.mark.parametrize("text", PLAIN)
def test_words_that_only_look_promotional(cn: Pack, text: str) -> None:
    assert sent(cn, text) == f"【Acme】{text}"


def test_a_question_about_consent_may_name_what_it_asks_about(cn: Pack) -> None:
    asked = "是否愿意接收优惠信息？愿意请回复Y"
    assert sent(cn, asked, "consent.preferences") == f"【Acme】{asked} 拒收请回复R"
    assert sent(cn, asked) == Code.CONTENT_PROMOTIONAL
    assert sent(cn, "优惠信息：全场5折", "consent.preferences") == Code.CONTENT_PROMOTIONAL


def test_a_refusal_says_the_packs_word_and_never_the_text(cn: Pack) -> None:
    made = compose("张三的秘密，Ｓ Ａ\u200bＬＥ", ACME, cn.purposes[NOTICE], cn)
    assert made == Refusal(Code.CONTENT_PROMOTIONAL, "contains 'sale'")


def test_length_counts_signature_refusal_text_and_surrogates(cn: Pack) -> None:
    room = 500 - len("【Acme】")
    assert len(str(sent(cn, "一" * room))) == 500
    assert sent(cn, "一" * (room + 1)) == Code.CONTENT_TOO_LONG
    assert sent(cn, "一" * room, MARKETING) == Code.CONTENT_TOO_LONG
    assert len(str(sent(cn, "一" * (room - 6), MARKETING))) == 500
    assert not isinstance(sent(cn, "😀" * (room // 2)), Code)
    assert sent(cn, "😀" * (room // 2 + 1)) == Code.CONTENT_TOO_LONG


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("a" * 160, ("gsm7", 160, 1)),
        ("a" * 161, ("gsm7", 161, 2)),
        ("a" * 306, ("gsm7", 306, 2)),
        ("a" * 307, ("gsm7", 307, 3)),
        ("€" * 80, ("gsm7", 160, 1)),
        ("€" * 81, ("gsm7", 162, 2)),
        ("a" * 152 + "€" + "a" * 152, ("gsm7", 306, 3)),
        ("a" * 151 + "€" + "a" * 153, ("gsm7", 306, 2)),
        ("[]{}~\\|^\f", ("gsm7", 18, 1)),
        ("`", ("ucs2", 1, 1)),
        ("ç", ("ucs2", 1, 1)),
        ("\x1b", ("ucs2", 1, 1)),
        ("一" * 70, ("ucs2", 70, 1)),
        ("一" * 71, ("ucs2", 71, 2)),
        ("一" * 134, ("ucs2", 134, 2)),
        ("一" * 135, ("ucs2", 135, 3)),
        ("😀" * 35, ("ucs2", 70, 1)),
        ("😀" * 36, ("ucs2", 72, 2)),
        ("一" * 66 + "😀" + "一" * 66, ("ucs2", 134, 3)),
        ("一" * 65 + "😀" + "一" * 67, ("ucs2", 134, 2)),
        ("👨‍👩‍👧", ("ucs2", 8, 1)),
        ("\ud83d" * 71, ("ucs2", 71, 2)),
        ("\ude00" * 134, ("ucs2", 134, 2)),
    ],
)
def test_parts(text: str, counted: tuple[str, int, int]) -> None:
    assert count_parts(text) == counted
