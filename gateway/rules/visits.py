"""Whether a visit of a campaign's link is a person's, as far as a request shows: pure.

Programs that look at links before people do (previews of chat apps, mail and safety scanners, crawlers, prefetching
browsers) would otherwise be most of the clicks. What says that it is one of them, or says nothing at all, is left out;
a program that pretends to be a browser is not recognised, so counts are an upper bound of interest, never a fact about
a person.
"""

from collections.abc import Mapping
from typing import Final

ROBOTS: Final = (
    "bot", "crawl", "spider", "slurp", "preview", "scan", "monitor", "probe", "headless", "phantomjs", "lighthouse",
    "facebookexternalhit", "facebookcatalog", "whatsapp", "embedly", "quora link", "vkshare", "skypeuri", "curl",
    "wget", "python", "httpx", "aiohttp", "go-http-client", "java/", "okhttp", "libwww", "axios", "node-fetch",
    "undici", "ruby/", "php/", "guzzle", "postman", "insomnia", "httpclient", "scrapy", "feedfetcher", "validator",
    "archiver", "google-inspection", "mediapartners", "snippet", "yisou", "safebrowsing", "barracuda", "proofpoint",
    "mimecast", "symantec", "trendmicro", "kaspersky", "fortinet", "zscaler",
)  # fmt: skip
"""Parts of a User-Agent, lower case, that programs have and browsers of people have not."""
_PEOPLES: Final = ("cubot",)
"""A make of telephones, for instance, that has such a part in its name."""
_AHEAD: Final = ("prefetch", "prerender", "preview")


def is_robot(method: str, head: Mapping[str, str]) -> bool:
    """Whether no person is behind a visit. `head`: headers by lower-case name."""
    agent = head.get("user-agent", "").lower()
    for name in _PEOPLES:
        agent = agent.replace(name, "")
    if method != "GET" or not agent or any(part in agent for part in ROBOTS):
        return True
    ahead = " ".join(head.get(name, "") for name in ("purpose", "sec-purpose", "x-purpose", "x-moz")).lower()
    if any(word in ahead for word in _AHEAD):
        return True
    return head.get("sec-fetch-mode", "navigate") != "navigate" or head.get("sec-fetch-dest", "document") != "document"
