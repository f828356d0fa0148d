"""Values of the attachment readers: what was found in a file, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Coverage = Literal["full", "partial", "none"]


@dataclass(frozen=True, slots=True)
class AttachmentLimits:
    """How much of an attachment is looked at.

    Attributes:
        max_bytes: Largest file, in bytes.
        max_unpacked: Most bytes that all packed parts of one file may unpack to.
        max_members: Most members of a packed file that are looked at.
        max_links: Most links collected.
        max_pdf_pages: Most pages of a PDF.
        max_depth: How deep files inside files are followed.
    """

    max_bytes: int = 30_000_000
    max_unpacked: int = 60_000_000
    max_members: int = 2_000
    max_links: int = 2_000
    max_pdf_pages: int = 100
    max_depth: int = 2


@dataclass(frozen=True, slots=True)
class AttachmentLink:
    """A link of an attachment.

    Attributes:
        url: Where it leads, as the file says it.
        where: What carries it: ``hyperlink``, ``annotation``, ``field``, ``text``, ``form``, ``frame``,
            ``external`` (a template, picture or object that is loaded from elsewhere), ``property``.
        inside: Name of the file inside the attachment in which it stands, or ``""``.
    """

    url: str
    where: str
    inside: str = ""


@dataclass(frozen=True, slots=True)
class AttachmentLinks:
    """What is known of an attachment.

    Attributes:
        kind: What it is, by its content (``PDF document``, ``Office document``, ``winmail.dat (TNEF)``).
        links: Its links, each once per place.
        coverage: ``full`` where everything that can be a link was looked at, ``partial`` where something was
            not, ``none`` where nothing was.
        notes: One short sentence for each thing that was not looked at.
    """

    kind: str
    links: tuple[AttachmentLink, ...] = ()
    coverage: Coverage = "full"
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Collector:
    """Collects links and notes while a file is read, within limits."""

    limits: AttachmentLimits
    links: dict[AttachmentLink, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, url: str, where: str, inside: str = "") -> None:
        """Keep a link that leads somewhere outside the file."""
        url = url.strip("\x00\t\n\r\x0b\x0c ")
        if not url or url.startswith("#"):
            return
        scheme = url.partition(":")[0].lower() if ":" in url else ""
        if scheme in _WITHIN or (not scheme and not url.lower().startswith(("www.", "//", "\\\\"))):
            return
        if len(self.links) >= self.limits.max_links:
            self.note(f"only the first {self.limits.max_links} links were collected")
            return
        self.links[AttachmentLink(url, where, inside)] = None

    def note(self, text: str) -> None:
        """Remember something that was not looked at."""
        self.notes[text] = None

    def take(self, other: AttachmentLinks, inside: str) -> None:
        """Take over what was found in a file inside this one."""
        for link in other.links:
            self.add(link.url, link.where, f"{inside}/{link.inside}" if link.inside else inside)
        for note in other.notes:
            self.note(f"{inside}: {note}" if inside else note)

    def result(self, kind: str, coverage: Coverage | None = None) -> AttachmentLinks:
        """Return what was collected; a note makes the coverage partial unless said otherwise."""
        return AttachmentLinks(
            kind, tuple(self.links), coverage or ("partial" if self.notes else "full"), tuple(self.notes)
        )


_WITHIN = frozenset({"mailto", "tel", "cid", "sms", "about", "mid", "xmpp", "sip", "data", "bookmark"})


def uncovered(kind: str, *notes: str, links: Iterable[AttachmentLink] = ()) -> AttachmentLinks:
    """Return the result for a file that was not looked at."""
    return AttachmentLinks(kind, tuple(links), "none", notes)
