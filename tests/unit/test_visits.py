"""Who follows a campaign's link: people count, programs do not."""

import pytest

from gateway.rules.visits import is_robot

PHONE = "Mozilla/5.0 (Linux; Android 14; {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
PEOPLE = [
    PHONE.format("PJD110"),
    PHONE.format("CUBOT NOTE 21"),
    PHONE.format("V2304A") + " MicroMessenger/8.0.50.2701 WeChat/arm64 Weixin NetType/WIFI",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148 Safari/604.1",
    PHONE.format("HUAWEI NOH-AN00") + " HuaweiBrowser/14.0",
]
PROGRAMS = [
    "",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "WhatsApp/2.23.20.0 A",
    "facebookexternalhit/1.1",
    "TelegramBot (like TwitterBot)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "curl/8.5.0",
    "python-requests/2.32",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0 Safari/537.36",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_count(agent: str) -> None:
    assert not is_robot("GET", {"user-agent": agent})
    assert not is_robot("GET", {"user-agent": agent, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"})


@pytest.mark.parametrize("agent", PROGRAMS)
def test_programs_do_not(agent: str) -> None:
    assert is_robot("GET", {"user-agent": agent})


@pytest.mark.parametrize(
    "more",
    [{"purpose": "prefetch"}, {"sec-purpose": "prefetch;prerender"}, {"x-purpose": "preview"}, {"x-moz": "prefetch"},
     {"sec-fetch-mode": "no-cors"}, {"sec-fetch-dest": "image"}],
)  # fmt: skip
def test_what_a_browser_fetches_ahead_or_beside_a_page_does_not(more: dict[str, str]) -> None:
    assert is_robot("GET", {"user-agent": PEOPLE[0], **more})


def test_a_look_at_the_head_does_not() -> None:
    assert is_robot("HEAD", {"user-agent": PEOPLE[0]})
