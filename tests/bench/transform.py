"""How fast the transformer is: one run on one core, real tokens minted.

    python -m tests.bench.transform [FOLDER ...]

Measures generated mails of several sizes and every message of the folders given: messages and megabytes per second, CPU
milliseconds per message (mean, p50, p99), and two ratios: to ``turbohtml.parse(source_locations=True)`` of the same
HTML alone (to reach: at most 4; the parser's own time per mail is printed, so that it can be seen what a small mail is
measured against), and to a rewrite with ``email`` and BeautifulSoup (to reach: at least 15 times faster). The first
line is a mail with two empty parts: what every message costs before a link is in it. Then the curve: time against size
for the shapes of input that make a careless implementation quadratic.
"""

from __future__ import annotations

import argparse
import base64
import email
import email.policy
import logging
import math
import quopri
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import turbohtml
from bs4 import BeautifulSoup

from app.kit.crypto import KeyRing
from app.links.mint import LinkOpener, Minter, message_opener
from app.messages import TransformPlan, transform

_GATEWAY = "https://gw.example"
_ROUNDS = 5
_WORDS = (
    "your",
    "account",
    "order",
    "invoice",
    "delivery",
    "please",
    "find",
    "attached",
    "confirm",
    "before",
    "tomorrow",
)
_ROW = (
    '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"><tr>'
    '<td align="center" style="padding:12px 24px;font-family:Arial,Helvetica,sans-serif;font-size:14px;color:#333333">'
    "{words} <strong>{words}</strong><br>\n"
    '<img src="https://images.example/{n}.png" width="120" alt=""></td></tr></table>\n'
)
_LINK = '<a href="https://www.shop{n}.example/path/{n}?id={n}&amp;utm_source=mail" style="color:#0066cc">{words}</a>\n'


def _words(random_source: random.Random, count: int) -> str:
    return " ".join(random_source.choice(_WORDS) for _ in range(count))


def generated(kilobytes: int, links: int, number: int, encoding: str) -> bytes:
    """A newsletter-like mail with a text and an HTML part."""
    chance = random.Random(number)
    rows: list[str] = []
    size = 0
    while size < kilobytes * 1024:
        row = _ROW.replace("{words}", _words(chance, 12)).replace("{n}", str(len(rows)))
        rows.append(row)
        size += len(row)
    for index in range(links):
        rows.insert(chance.randrange(len(rows)), _LINK.replace("{n}", str(index)).replace("{words}", _words(chance, 3)))
    html = (
        "<!DOCTYPE html>\n<html><head><style>td{color:#333}</style></head><body>\n" + "".join(rows) + "</body></html>\n"
    )
    data = html.encode().replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        data = quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    elif encoding == "base64":
        data = base64.encodebytes(data).replace(b"\n", b"\r\n")
    text = f"{_words(chance, 60)} https://www.shop0.example/ {_words(chance, 20)}\r\n".encode()
    return (
        b"From: a@sender.example\r\nTo: b@tenant.example\r\nSubject: News\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/alternative; boundary="=_b"\r\n\r\n'
        b"--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        + text
        + b"--=_b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: "
        + encoding.encode()
        + b"\r\n\r\n"
        + data
        + b"--=_b--\r\n"
    )


def html_parts(raw: bytes) -> list[str]:
    """The decoded HTML parts, for the parser alone."""
    parts = []
    for part in email.message_from_bytes(raw).walk():
        if part.get_content_type() == "text/html" and not part.is_multipart():
            payload = part.get_payload(decode=True)
            parts.append(payload.decode("latin-1") if isinstance(payload, bytes) else "")
    return parts


def with_beautifulsoup(raw: bytes, mint: Callable[[str], str]) -> bytes:
    """What many filters do: take the mail apart, rewrite the tree, put everything together again."""
    message = email.message_from_bytes(raw)
    for part in message.walk():
        if part.get_content_type() != "text/html" or part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        tree = BeautifulSoup(payload if isinstance(payload, bytes) else b"", "html.parser")
        for link in tree.find_all(["a", "area"], href=True):
            if str(link["href"]).startswith("http"):
                link["href"] = mint(str(link["href"]))
        del part["Content-Transfer-Encoding"]
        part.set_payload(str(tree), "utf-8")
    return message.as_bytes()


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _plan() -> tuple[TransformPlan, Minter]:
    keys = KeyRing({1: b"k" * 32})
    mint = Minter(keys, _GATEWAY, "l")
    return TransformPlan(_GATEWAY, mint, open_link=message_opener(LinkOpener(keys, _GATEWAY, "l"), 0, 0, 0)), mint


def measure(name: str, mails: Sequence[bytes], soup_share: int) -> str:
    """One line of the report for a set of mails."""
    plan, mint = _plan()
    pages = [html_parts(raw) for raw in mails]
    best = [math.inf] * len(mails)
    parses = [math.inf] * len(mails)
    links = 0
    for _ in range(_ROUNDS):
        links = 0
        # In turns, so that both meet the same caches and the same neighbours on the machine. Each document is dropped
        # before the next one is made, as ours is: keeping them all would make the parser alone look two to four times
        # slower, since it then pays for fresh memory each time.
        for index, raw in enumerate(mails):
            start = time.process_time()
            done = transform(raw, plan)
            middle = time.process_time()
            for page in pages[index]:
                turbohtml.parse(page, source_locations=True)
            end = time.process_time()
            best[index] = min(best[index], middle - start)
            parses[index] = min(parses[index], end - middle)
            links += len(done.links)
    total, parse = sum(best), sum(parses)
    soup = sum(
        min(
            _cpu(partial(with_beautifulsoup, raw, lambda url: mint.mint(url, url.encode(), "anchor"))) for _ in range(3)
        )
        for raw in mails[::soup_share]
    )
    ours = sum(best[::soup_share])
    ordered = sorted(best)
    size = sum(map(len, mails))
    has_html = any(page.strip() for found in pages for page in found)
    return (
        f"{name:28s} {len(mails):5d} mails {size / len(mails) / 1000:7.1f} kB {links / len(mails):5.1f} links "
        f"{len(mails) / total:7.0f} mails/s {size / total / 1e6:6.1f} MB/s "
        f"mean {total / len(mails) * 1e3:6.3f} p50 {ordered[len(ordered) // 2] * 1e3:6.3f} "
        f"p99 {ordered[int(len(ordered) * 0.99)] * 1e3:6.3f} parse alone {parse / len(mails) * 1e3:6.3f} ms "
        + (f"= x{total / parse:5.1f}  soup /{soup / ours:5.1f}" if has_html else "")
    )


def without_content(number: int) -> bytes:
    """A mail as `generated`, but with no text in either part: what a message costs before anything is in it."""
    head, text, html = generated(1, 1, number, "8bit").split(b"--=_b\r\n")
    empty = (part[: part.index(b"\r\n\r\n") + 4] + b"\r\n" for part in (text, html))
    return b"--=_b\r\n".join([head, *empty]) + b"--=_b--\r\n"


def _one(html: str) -> bytes:
    return b"Content-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()


_SHAPES: dict[str, Callable[[int], bytes]] = {
    "rows": lambda n: generated(max(n // 1024, 1), 4, 1, "8bit"),
    "links": lambda n: _one('<a href="http://a.example/x">x</a>\n' * (n // 36)),
    "links on one quoted line": lambda n: (
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + b'<a href=3D"http://a.example/x">x</a>' * (n // 37)
    ),
    "bare addresses": lambda n: _one("<p>http://a.example/x</p>\n" * (n // 28)),
    "nested elements": lambda n: _one("<div>" * (n // 5) + '<a href="http://a.example/">x</a>'),
    "nested parts": lambda n: b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(n // 62)
    ),
    "open boundaries": lambda n: (
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(n // 620))
        + b"Content-Type: text/plain\r\n\r\n"
        + b"--b of none\r\nhttp://a.example/\r\n" * (n // 35)
    ),
    "attributes": lambda n: _one("<a " + "".join(f"x{i}=y " for i in range(n // 9)) + 'href="http://a.example/">x</a>'),
    "text without spaces": lambda n: b"Content-Type: text/plain\r\n\r\n" + b"http://a.example/" * (n // 17),
    "quotes and brackets": lambda n: b"Content-Type: text/plain\r\n\r\nhttp://a.example/" + b")'" * (n // 2),
    "conditional comments": lambda n: _one('<!--[if mso]><a href="http://a.example/">x</a><![endif]-->\n' * (n // 60)),
}


def curve(sizes: Iterable[int]) -> None:
    """Time against size, shape by shape."""
    plan, _ = _plan()
    wanted = list(sizes)
    print("\nmilliseconds by size      " + "".join(f"{size // 1000:>9d} kB" for size in wanted))
    for name, make in _SHAPES.items():
        times = []
        for size in wanted:
            raw = make(size)
            times.append(_cpu(lambda raw=raw: transform(raw, plan)) * 1e3)  # type: ignore[misc]  # bound at once
        print(f"{name:26s}" + "".join(f"{value:12.1f}" for value in times))


def main(arguments: Sequence[str]) -> int:
    """Print the report."""
    ask = argparse.ArgumentParser(prog="python -m tests.bench.transform", description="Measure the transformer.")
    ask.add_argument("folders", nargs="*", type=Path, help="folders of messages, walked recursively")
    ask.add_argument("--soup-share", type=int, default=5, help="rewrite every Nth mail with BeautifulSoup (default 5)")
    ask.add_argument("--large", type=int, default=3, help="largest input of the curve in MB (default 3)")
    options = ask.parse_args(arguments)
    logging.getLogger("bs4").setLevel(logging.ERROR)  # it comments on every mail in a charset that it does not know
    print("times are CPU milliseconds per mail, the best of several rounds; parse alone: turbohtml on its HTML parts")
    print(measure("two empty parts", [without_content(number) for number in range(60)], options.soup_share), flush=True)
    for kilobytes, links in ((4, 3), (16, 6), (32, 4), (128, 30), (512, 100)):
        encodings = ("quoted-printable", "base64", "8bit")
        mails = [generated(kilobytes, links, number, encodings[number % 3]) for number in range(60)]
        print(measure(f"generated {kilobytes} kB", mails, options.soup_share), flush=True)
    for folder in options.folders:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        if not found:
            print(f"{folder}: no messages", file=sys.stderr)
            return 1
        mails = [path.read_bytes() for path in found]
        print(measure(folder.name[:28], mails, options.soup_share), flush=True)
        formatted = [raw for raw in mails if b"text/html" in raw.lower()]
        if formatted:
            print(measure("  of these with HTML", formatted, options.soup_share), flush=True)
    largest = options.large * 1_000_000
    curve([largest // 16, largest // 4, largest])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
