"""Lists that are one file: over HTTP or from disk, plain, gzipped or as the one member of a ZIP archive.

Over HTTP a list is asked for only if it changed (``ETag``, ``Last-Modified``: RFC 9110, sections 8.8 and 13.1). A
``{key}`` in the address stands for the source's key, which some publishers want in the path.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import IO, Any, Final
from urllib.parse import quote

from app.kit.errors import Refused
from app.verdicts.feed_formats import entries
from app.verdicts.sources.base import ConfiguredSource, opened, require_ok
from app.verdicts.sources.types import Download, Entry, SourceClient, SourceFailed, Tally

MAX_UNPACKED_BYTES: Final = 4 << 30
MAX_LINE: Final = 1 << 16
"""Characters of a line; a longer one is read in pieces, which are no entries."""

KEY_PLACE: Final = "{key}"
_NONE_USED: Final = "None of the list was used."
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"


class FileList(ConfiguredSource):
    """A list source that is one file: ``http(s)://...`` or ``file:...``.

    Options: ``format`` (one of :data:`app.verdicts.feed_formats.FORMATS`), ``column`` (which holds the addresses),
    ``key_header`` (the header in which the key is sent).
    """

    @asynccontextmanager
    async def download(self, client: SourceClient, state: bytes | None) -> AsyncIterator[Download]:
        """Read the file, or ask for it; see :class:`app.verdicts.sources.types.ListSource`.

        Raises:
            SourceFailed: It did not come whole.
        """
        before = _state(state)
        if self.config.address.startswith("file:"):
            with opened(self.config.address, _NONE_USED) as file:
                yield await asyncio.to_thread(self._download, file, {}, before)
            return
        address = self.config.address.replace(KEY_PLACE, quote(self._secret, safe=""))
        async with client.fetch(address, headers=self._headers(before)) as fetched:
            if fetched.status == 304:
                yield Download(unchanged=True, state=state or b"")
                return
            require_ok(fetched, self.name, _NONE_USED)
            found = {"etag": "etag", "last_modified": "last-modified"}
            about = {name: fetched.headers.get(header, "") for name, header in found.items()}
            yield await asyncio.to_thread(self._download, fetched.body, about, before)

    def _headers(self, before: dict[str, str]) -> dict[str, str]:
        headers: dict[str, str] = {}
        if etag := before.get("etag"):
            headers["If-None-Match"] = etag
        if modified := before.get("last_modified"):
            headers["If-Modified-Since"] = modified
        header = str(self.config.options.get("key_header", ""))
        if header and self._secret:
            headers[header] = self._secret
        return headers

    def _download(self, body: IO[bytes], about: dict[str, str], before: dict[str, str]) -> Download:
        found = {**about, "sha256": _digest(body)}
        state = json.dumps(found).encode()
        if found["sha256"] == before.get("sha256"):
            return Download(unchanged=True, state=state)
        tally = Tally()
        return Download(entries=self._entries(body, tally), state=state, tally=tally)

    def _entries(self, body: IO[bytes], tally: Tally) -> Iterator[Entry]:
        kind, column = str(self.config.options.get("format", "auto")), str(self.config.options.get("column", ""))
        try:
            with _unpacked(body) as plain:
                text = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="replace")
                yield from entries(_lines(text), kind, tally, column)
        except Refused as error:
            raise SourceFailed(str(error), reason="format") from None
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, struct.error, NotImplementedError):
            raise SourceFailed("The compressed list is cut off; none of it was used.", reason="cut_off") from None
        except OSError as error:
            raise SourceFailed(f"The list cannot be read: {error}.", reason="connect") from None


def _state(state: bytes | None) -> dict[str, str]:
    if not state:
        return {}
    found: dict[str, Any] = json.loads(state)
    return {name: str(value) for name, value in found.items()}


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


class _Bounded(io.RawIOBase):
    """Reads from another file up to a bound: a small archive can unpack to anything."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._left = MAX_UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise SourceFailed(
                f"The list unpacks to more than {MAX_UNPACKED_BYTES >> 30} GB; none of it was used.", reason="too_large"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _unpacked(body: IO[bytes]) -> IO[bytes]:
    head = body.read(4)
    body.seek(0)
    inner: Any = body
    if head.startswith(_GZIP):
        inner = gzip.GzipFile(fileobj=body, mode="rb")
    elif head.startswith(_ZIP):
        archive = zipfile.ZipFile(body)
        names = [info for info in archive.infolist() if not info.is_dir()]
        packings = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if len(names) != 1 or names[0].flag_bits & 1 or names[0].compress_type not in packings:
            raise SourceFailed("The archive does not hold exactly one readable file.", reason="format")
        inner = archive.open(names[0])
    return io.BufferedReader(_Bounded(inner), 1 << 16)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        yield line
