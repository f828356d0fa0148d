"""Stand-ins for those who publish lists: real HTTP on loopback, each list in its own format."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Listing:
    """One published file.

    Attributes:
        body: As it is now.
        content_type: What it says it is.
        packed: Compressed on the way (``Content-Encoding: gzip``).
        cut_at: Bytes after which the connection breaks; None: it does not.
        chunked: Without a length, in chunks.
        status: Instead of 200.
        headers: More headers.
    """

    body: bytes = b""
    content_type: str = "text/plain"
    packed: bool = False
    cut_at: int | None = None
    chunked: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """One request that came."""

    path: str
    headers: dict[str, str]
    status: int


@dataclass
class Publisher:
    """A server of lists.

    Attributes:
        url: Its address.
        listings: Path -> what is published there.
        asked: What was asked.
    """

    url: str
    listings: dict[str, Listing]
    asked: list[Asked]

    def publish(self, path: str, body: bytes | str, **values: object) -> str:
        """Publish a file; returns its address."""
        data = body.encode() if isinstance(body, str) else body
        self.listings[path] = Listing(data, **values)  # type: ignore[arg-type]  # the caller names its fields
        return self.url + path


def _handler(listings: dict[str, Listing], asked: list[Asked]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

        def do_GET(self) -> None:
            listing = listings.get(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            if listing is None:
                asked.append(Asked(self.path, headers, 404))
                self._answer(404, {"Content-Length": "0"})
                return
            etag = f'"{hashlib.sha256(listing.body).hexdigest()[:16]}"'
            if listing.status == 200 and headers.get("if-none-match") == etag:
                asked.append(Asked(self.path, headers, 304))
                self._answer(304, {"ETag": etag})
                return
            asked.append(Asked(self.path, headers, listing.status))
            body = gzip.compress(listing.body) if listing.packed else listing.body
            found = {"Content-Type": listing.content_type, "ETag": etag, **listing.headers}
            if listing.packed:
                found["Content-Encoding"] = "gzip"
            found |= {"Transfer-Encoding": "chunked"} if listing.chunked else {"Content-Length": str(len(body))}
            self._answer(listing.status, found)
            sent = body if listing.cut_at is None else body[: listing.cut_at]
            if listing.chunked:
                for first in range(0, len(sent), 1000):
                    piece = sent[first : first + 1000]
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                if listing.cut_at is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(sent)
            if listing.cut_at is not None:
                self.close_connection = True

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A server on a free port of loopback."""
    listings: dict[str, Listing] = {}
    asked: list[Asked] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(listings, asked))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Publisher(f"http://127.0.0.1:{server.server_port}", listings, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def urlhaus_csv(urls: list[str], added: str = "2026-11-20 08:15:00") -> str:
    """The export as abuse.ch writes it: a banner, the header behind ``#``, all fields quoted, CRLF."""
    rows = [
        f'"{number}","{added}","{url}","online","2026-11-21 10:00:00","malware_download","elf",'
        f'"https://urlhaus.abuse.ch/url/{number}/","reporter"'
        for number, url in enumerate(urls, 1)
    ]
    banner = "#" * 64
    head = [banner, "# abuse.ch URLhaus Database Dump (CSV - recent URLs only)", banner, "#"]
    columns = "# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter"
    return "\r\n".join([*head, columns, *rows, f"# Number of entries: {len(urls)}", ""])


def threatfox_csv(values: list[tuple[str, str, int]]) -> str:
    """The export of indicators: value, type, confidence."""
    names = (
        "first_seen_utc,ioc_id,ioc_value,ioc_type,threat_type,fk_malware,malware_alias,malware_printable,"
        "last_seen_utc,confidence_level,is_compromised,reference,tags,anonymous,reporter"
    )
    rows = [
        f'"2026-11-19 12:00:00", "{number}", "{value}", "{kind}", "payload_delivery", "win.x", "None", "X", "", '
        f'"{confidence}", "False", "None", "tag", "0", "reporter"'
        for number, (value, kind, confidence) in enumerate(values, 1)
    ]
    quoted = ",".join(f'"{name}"' for name in names.split(","))
    return "\n".join(["#" * 64, "# ThreatFox IOCs: recent", f"# {quoted}", *rows, ""])


def phishtank_csv(urls: list[str], online: Callable[[str], bool] = lambda _: True) -> bytes:
    """The database of verified phishes, as it is downloaded: a gzip file."""
    head = "phish_id,url,phish_detail_url,submission_time,verified,verification_time,online,target"
    rows = [
        f"{number},{url},http://www.phishtank.com/phish_detail.php?phish_id={number},2026-11-18T07:00:00+00:00,yes,"
        f"2026-11-18T07:05:00+00:00,{'yes' if online(url) else 'no'},Other"
        for number, url in enumerate(urls, 1)
    ]
    return gzip.compress("\n".join([head, *rows, ""]).encode())
