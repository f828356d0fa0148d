"""Was this click a person's? Signals that scanners, previews and libraries leave, weighed, with reasons.

Nothing here stops a click: it only labels the record, so that reports can count people (L32, L33, N8). A click is
called automated from 60 points; what a person alone does (pressing a button on a page of ours) outweighs the rest.
PURE: the only data is the public list of crawlers that ``crawler-user-agents`` brings.

What browsers send with a navigation: https://www.w3.org/TR/fetch-metadata/ (Chromium 76, Firefox 90,
Safari 16.4 and later).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

AUTOMATED_FROM: Final = 60
WINDOW: Final = timedelta(seconds=10)
"""Clicks this close together are looked at together."""

_LIBRARY_RE: Final = re.compile(
    r"(?:^|[\s(;])(?:curl|wget|python|aiohttp|httpx|go-http-client|java|okhttp|apache-httpclient|libwww-perl|ruby|"
    r"php|guzzlehttp|axios|node-fetch|undici|dart|winhttp|powershell|restsharp|postmanruntime|faraday|lwp)\b",
    re.IGNORECASE,
)
_HEADLESS_RE: Final = re.compile(r"headless|phantomjs|selenium|puppeteer|playwright|splash", re.IGNORECASE)
_SCANNER_RE: Final = re.compile(
    r"barracuda|mimecast|proofpoint|ironport|forcepoint|symantec|trendmicro|trend micro|zscaler|bitdefender|sophos|"
    r"fireeye|trellix|checkpoint|avanan|urlscan|virustotal|safelinks|office preview|skypeuripreview|"
    r"ms-office|microsoft office|linkcheck|preview|scanner",
    re.IGNORECASE,
)
_BROWSER_RE: Final = re.compile(r"(Chrome|Firefox|Version)/([0-9]+)")
_SENDS_METADATA_SINCE: Final = {"Chrome": 80, "Firefox": 90, "Version": 17}


@dataclass(frozen=True, slots=True)
class ClickTrace:
    """What is known about one click.

    Attributes:
        at: When.
        message: Which message, None where that is unknown.
        mailbox: Whose.
        url: Which link.
        host: Its host.
        agent: ``User-Agent``.
        action: What was answered; ``proceed`` and ``early`` are buttons that were pressed.
        headers: The request headers kept with a click, lower case names.
        delivered_at: When the message was delivered, None where that is unknown.
        drawn: Whether a page of ours that answered it was drawn by a browser; None: there was none, or it is too
            early to tell.
        datacentre: Whether it came from a network where programs run.
    """

    at: datetime
    message: int | None
    mailbox: int | None
    url: str
    host: str
    agent: str
    action: str = "redirect"
    headers: Mapping[str, str] = field(default_factory=dict)
    delivered_at: datetime | None = None
    drawn: bool | None = None
    datacentre: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """What is thought of a click.

    Attributes:
        automated: Whether it is called automated.
        score: Points, 0 to 100.
        reasons: One English sentence each, heaviest first; also those that speak for a person.
    """

    automated: bool
    score: int
    reasons: tuple[str, ...]


def label(click: ClickTrace, others: Iterable[ClickTrace] = ()) -> Label:
    """Label a click.

    Args:
        click: The click.
        others: Clicks of the same tenant around the same time; ``click`` itself may be among them.
    """
    points = [*_agent(click.agent), *_headers(click), *_place(click), *_timing(click), *_company(click, others)]
    score = max(0, min(100, sum(weight for weight, _ in points)))
    points.sort(key=lambda point: -abs(point[0]))
    return Label(score >= AUTOMATED_FROM, score, tuple(reason for _, reason in points))


@lru_cache(maxsize=4096)
def _agent(agent: str) -> tuple[tuple[int, str], ...]:
    if not agent.strip():
        return ((60, "It did not say what program it was."),)
    if _SCANNER_RE.search(agent):
        return ((90, "It named itself as a mail scanner or preview."),)
    if _LIBRARY_RE.search(agent):
        return ((90, "It named itself as a programming library or tool."),)
    if _HEADLESS_RE.search(agent):
        return ((70, "It was a browser without a screen, steered by a program."),)
    # Loaded late: the gateway answers clicks without it.
    from crawleruseragents import is_crawler

    if is_crawler(agent):
        return ((90, "It is on the public list of crawlers and link previews."),)
    if _BROWSER_RE.search(agent) is None:
        return ((30, "It did not name itself as a known browser."),)
    return ()


def _headers(click: ClickTrace) -> list[tuple[int, str]]:
    if click.action == "proceed":
        return [(-100, "A button on the warning page was pressed.")]
    if click.action == "early":
        return [(-100, "The button on the waiting page was pressed.")]
    headers = click.headers
    found: list[tuple[int, str]] = []
    mode, dest = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    if mode is not None and mode != "navigate":
        found.append((50, "It was fetched by a page or a program, not opened as a page."))
    elif dest is not None and dest not in ("document", "iframe"):
        found.append((50, "It was fetched as a part of a page, not opened as a page."))
    if headers.get("sec-fetch-user") == "?1":
        found.append((-50, "The browser says that somebody clicked or tapped."))
    elif mode is None and _should_send_metadata(click.agent):
        found.append((40, "It called itself a current browser, but sent none of what such a browser sends."))
    if "accept-language" not in headers:
        found.append((30, "It named no language, which browsers do."))
    return found


def _place(click: ClickTrace) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    if click.datacentre:
        found.append((25, "It came from a data centre, where programs run."))
    if click.drawn is True:
        found.append((-20, "The page that was shown was drawn by a browser, with the picture on it."))
    elif click.drawn is False:
        found.append((25, "The page that was shown was never drawn: nobody asked for the picture on it."))
    return found


def _should_send_metadata(agent: str) -> bool:
    return any(int(version) >= _SENDS_METADATA_SINCE[name] for name, version in _BROWSER_RE.findall(agent)[:3])


def _timing(click: ClickTrace) -> list[tuple[int, str]]:
    if click.delivered_at is None:
        return []
    seconds = (click.at - click.delivered_at).total_seconds()
    if seconds < 0:
        return [(40, "The link was opened before the message was delivered.")]
    if seconds < 3:
        return [(35, f"The link was opened {seconds:.0f} s after the message was delivered.")]
    if seconds < 10:
        return [(20, f"The link was opened {seconds:.0f} s after the message was delivered.")]
    return []


def _company(click: ClickTrace, others: Iterable[ClickTrace]) -> list[tuple[int, str]]:
    links = {click.url}
    mailboxes = {click.mailbox}
    for other in others:
        if abs(other.at - click.at) > WINDOW:
            continue
        if click.message is not None and other.message == click.message:
            links.add(other.url)
        if other.agent == click.agent and other.host == click.host:
            mailboxes.add(other.mailbox)
    found: list[tuple[int, str]] = []
    if len(links) >= 8:
        found.append((80, f"{len(links)} links of the message were opened within seconds."))
    elif len(links) >= 4:
        found.append((60, f"{len(links)} links of the message were opened within seconds."))
    elif len(links) == 3:
        found.append((15, "3 links of the message were opened within seconds."))
    mailboxes.discard(None)
    if len(mailboxes) >= 10:
        found.append((60, f"The same program opened such links of {len(mailboxes)} people within seconds."))
    elif len(mailboxes) >= 5:
        found.append((30, f"The same program opened such links of {len(mailboxes)} people within seconds."))
    return found
