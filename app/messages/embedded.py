"""Links outside of the shown text: in attachments, calendars and pictures (features L14, N10).

Attachments are read and reported, never changed, unless the plan says so for HTML and SVG. QR codes are links too: they
are read from pictures of every kind and, by the plan, left, made unreadable, or replaced by one for the gateway link.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote_to_bytes

from app.messages.candidates import Candidate
from app.messages.charsets import View
from app.messages.markup import attribute_value
from app.messages.pixel_budget import SPENT, PixelBudget
from app.messages.rewrite import Change, Writer
from app.messages.types import FoundLink, LinkAction, LinkKind, RewrittenLink
from app.messages.urls import TargetClass, resolve

if TYPE_CHECKING:
    from app.messages.qr.blank import Edit
    from app.messages.qr.blocks import BlockCode

_T = TypeVar("_T")
# Begins with a character that has no case: then the places are looked for ten times as fast.
_DATA_IMAGE = re.compile(
    r":(?<=[dD][aA][tT][aA]:)(?i:image/(?:png|jpe?g|gif|webp|bmp|x-ms-bmp);base64,)([A-Za-z0-9+/=\s]{40,})"
)
_BLOCKS = "\u2588\u2580\u2584\u25a0\u2b1b\u28ff"
_SPELLED_BLOCKS = re.compile("&#(?:96|[xX]25)|&(?:lh|uh)?bl(?:oc)?k;")
_DATA_DRAWING = re.compile(
    r"\"\s*(data:image/svg\+xml[^,\"]*,([^\"]*))\"|'\s*(data:image/svg\+xml[^,']*,([^']*))'", re.I
)
_INLINE_DRAWING = re.compile(r"<svg[\s>](?:(?!</svg|<svg)[\s\S]){1500,200000}</svg\s*>", re.I)
_MAX_INLINE = 5
_LEAST_CELLS = 400
_ROW = 21
_STRIDE = 1_500
_CELL_CHARACTERS = 160
_PIECE = 4 * _CELL_CHARACTERS
_FEW_CELLS = 3
_MAX_JOINED = 6
_MAX_IMAGES = 40
_MAX_PIXELS = 150_000_000  # of all pictures, pages and drawings of a message
_EMBEDDED_URL = re.compile(r"(?i)(?:https?:|www\.)")


@dataclass(slots=True)
class Pictures:
    """Reads the QR codes of one message."""

    writer: Writer
    seen: int = 0
    budget: PixelBudget = field(default_factory=lambda: PixelBudget(_MAX_PIXELS))
    plain: list[tuple[str, bytes]] = field(default_factory=list)

    def picture(self, data: bytes, part: str) -> bytes | None:
        """Read a picture; return what it becomes, None when it stays."""
        from app.messages import qr

        self.seen += 1
        if self.seen > _MAX_IMAGES:
            self.not_looked_at("The message", part, f"only its first {_MAX_IMAGES} pictures are looked at")
            return None
        if not self.budget.take(qr.pixels(data)):
            self.not_looked_at("A picture", part, SPENT)
            return None
        scan = self.looked("A picture", part, lambda: qr.scan(data), qr.QrScan())
        for note in scan.notes:
            self.not_looked_at("A picture", part, note)
        if not scan.codes:
            if len(data) < 300_000:
                self.plain.append((part, data))
            return None
        wanted: list[tuple[qr.QrCode, str | None]] = []
        decided: list[RewrittenLink] = []
        for code in scan.codes:
            link = self._decided(code.text, part)
            if link is not None:
                wanted.append((code, link.gateway_url))
                decided.append(link)
        if not wanted:
            return None
        try:
            painted = qr.repaint(data, wanted)
        except qr.CannotPaint as error:
            self.writer.links += [RewrittenLink(link.link, LinkAction.LEAVE, None) for link in decided]
            self.writer.warn("qr_not_changed", part, f"A QR code was left readable: {error}.")
            return None
        for link, outcome in zip(decided, painted.outcomes, strict=True):
            if link.action is LinkAction.REWRITE and outcome == "defaced":
                self.writer.warn(
                    "qr_defaced", part, "A QR code has no room for the gateway link and was made unreadable instead."
                )
                link = RewrittenLink(link.link, LinkAction.REDACT, None)
            self.writer.links.append(link)
        return painted.data

    def joined(self) -> None:
        """Look for codes that are cut into several pictures; they can only be reported."""
        if not 2 <= len(self.plain) <= _MAX_JOINED:
            return
        from app.messages import qr

        pictures = [data for _, data in self.plain]
        nothing: tuple[tuple[qr.JoinedCode, ...], tuple[str, ...]] = ((), ())
        codes, notes = self.looked(
            "Pictures put together", self.plain[0][0], lambda: qr.join_scan(pictures, budget=self.budget), nothing
        )
        for code in codes:
            self.report([code.text], self.plain[code.images[0]][0], "is cut into several pictures")
        for note in notes:
            self.not_looked_at("Pictures put together", self.plain[0][0], note)

    def looked(self, what: str, part: str, look: Callable[[], _T], nothing: _T) -> _T:
        """What looking for codes gave; a library that refuses is said and no reason to stop."""
        from app.messages import qr

        try:
            return look()
        except qr.REFUSALS:
            self.not_looked_at(what, part, "a library that reads it refused it")
            return nothing

    def not_looked_at(self, what: str, part: str, why: str) -> None:
        """Say what was not, or not fully, searched for codes; each thing once for a part."""
        message = f"{what} may hold a QR code that was not found: {why}."
        if not any(w.part == part and w.message == message for w in self.writer.warnings):
            self.writer.warn("qr_not_covered", part, message)

    def report(self, texts: Iterable[str], part: str, why: str) -> None:
        """Report codes that are never changed where they stand."""
        for text in texts:
            link = self._link(text, part)
            if link is None:
                continue
            self.writer.links.append(RewrittenLink(link, LinkAction.LEAVE, None))
            if self.writer.plan.qr != "report":
                self.writer.warn("qr_not_changed", part, f"A QR code {why}: it was reported and left readable.")

    def _link(self, text: str, part: str) -> FoundLink | None:
        if not _EMBEDDED_URL.match(text.strip()):
            return None
        target, url = resolve(text if "://" in text else "http://" + text.strip())
        if target is not TargetClass.HTTP:
            return None
        candidate = Candidate(0, 0, LinkKind.QR, target, url, "")
        return self.writer.judge.judge(candidate, url, text.encode("utf-8", "replace"), part, (), unsubscribe=False)

    def drawing(self, data: bytes, part: str) -> bytes | None:
        """Read an SVG drawing; return what it becomes, None when it stays."""
        from app.messages import qr
        from app.messages.qr import svg_paint
        from app.messages.qr.svg import scan_svg

        scan = self.looked("SVG drawing", part, lambda: scan_svg(data, budget=self.budget), qr.QrScan())
        for note in scan.notes:
            self.not_looked_at("SVG drawing", part, note)
        decided = [link for code in scan.codes if (link := self._decided(code.text, part)) is not None]
        if not decided:
            return None
        new = None
        if len(scan.codes) == 1 and decided[0].gateway_url is not None:
            new = svg_paint.replaced(data, decided[0].gateway_url)
        if new is None:
            new = svg_paint.blank(data)
            if any(link.gateway_url is not None for link in decided):
                self.writer.warn(
                    "qr_defaced", part, "A QR code in a drawing could not be replaced and was made unreadable instead."
                )
            decided = [RewrittenLink(link.link, LinkAction.REDACT, None) for link in decided]
        self.writer.links += decided
        return new

    def _decided(self, text: str, part: str, *, is_replaceable: bool = True) -> RewrittenLink | None:
        """What is to become of a code; None where it stays (and is reported here)."""
        link = self._link(text, part)
        if link is None or self.writer.is_ours(link.url):
            return None
        plan = self.writer.plan
        mode = plan.qr
        wanted = plan.decide(link) if plan.decide is not None else LinkAction.REWRITE
        if mode == "report" or wanted is LinkAction.LEAVE:
            self.writer.links.append(RewrittenLink(link, LinkAction.LEAVE, None))
            return None
        if mode == "replace" and wanted is LinkAction.REWRITE and is_replaceable:
            try:
                gateway_url = plan.mint(link)
            except ValueError as error:
                self.writer.warn("not_minted", part, f"A QR code was made unreadable instead of replaced: {error}")
            else:
                return RewrittenLink(link, LinkAction.REWRITE, gateway_url)
        return RewrittenLink(link, LinkAction.REDACT, None)

    def in_markup(self, view: View, part: str, taken: Sequence[Change]) -> list[Change]:
        """Codes in ``data:`` pictures and in tables or block characters of an HTML part whose links were looked for.

        Args:
            view: The part's text.
            part: MIME part path.
            taken: What its links become; a code inside one of them is changed with it.
        """
        source = view.text
        changes: list[Change] = []
        if "data:image/svg" in source:
            for hit in _DATA_DRAWING.finditer(source):
                group = 1 if hit[1] else 3
                new = self.drawing(_drawing_in(hit[group], hit[group + 1]), part)
                if new is not None:
                    text = "data:image/svg+xml;base64," + binascii.b2a_base64(new, newline=False).decode("ascii")
                    changes.append(Change(*hit.span(group), text, token=False))
        if ";base64," in source or (source.isupper() and ";BASE64," in source):
            found: list[Change] = []
            for hit in _DATA_IMAGE.finditer(source):
                data = _decoded(hit[1])
                new = self.picture(data, part) if data else None
                if new is not None:
                    text = binascii.b2a_base64(new, newline=False).decode("ascii")
                    found.append(Change(*hit.span(1), text, token=False))
            changes += _apart(found, changes)
        if _has_dense_table(source) or _has_blocks(view, self.writer.shown):
            from app.messages.qr.blank import blank_html
            from app.messages.qr.html_blocks import find_in_html

            drawn = self._drawn(view, part, find_in_html, blank_html, "drawn with characters or a table")
            changes += _apart(drawn, changes)
        if self.writer.has_drawing:
            self._inline_drawings(view, part)
        return _apart(changes, taken)

    def in_text(self, view: View, part: str, taken: Sequence[Change]) -> list[Change]:
        """Codes in block characters of a text part; see `in_markup`."""
        if not _has_blocks(view, view.text):
            return []
        from app.messages.qr.blank import blank_text
        from app.messages.qr.blocks import find_in_text

        return _apart(self._drawn(view, part, find_in_text, blank_text, "drawn with characters"), taken)

    def _drawn(
        self,
        view: View,
        part: str,
        find: Callable[[str], Sequence[BlockCode]],
        blank: Callable[[str, Sequence[BlockCode]], list[Edit] | None],
        how: str,
    ) -> list[Change]:
        """Codes that are drawn without a picture: made unreadable where a policy wants them changed."""
        text, place = view.reader()
        if text is view.text and not view.is_text and not text.isascii():
            # Places in what is read cannot be told: the code can be read but not changed.
            shown = view.decode(0, len(text))
            unread: list[str] = []
            said = self.looked("The text", part, lambda: [code.text for code in find(shown)], unread)
            self.report(said, part, f"is {how}")
            return []
        wanted: list[BlockCode] = []
        decided: list[FoundLink] = []
        none: list[BlockCode] = []
        for code in self.looked("The text", part, lambda: list(find(text)), none):
            link = self._decided(code.text, part, is_replaceable=False)
            if link is not None:
                wanted.append(code)
                decided.append(link.link)
        edits = blank(text, wanted) if wanted else []
        if edits is None:
            self.writer.links += [RewrittenLink(link, LinkAction.LEAVE, None) for link in decided]
            self.writer.warn("qr_not_changed", part, f"A QR code {how} could not be changed and was left readable.")
            return []
        self.writer.links += [RewrittenLink(link, LinkAction.REDACT, None) for link in decided]
        if decided and self.writer.plan.qr == "replace":
            self.writer.warn(
                "qr_defaced", part, f"A QR code {how} cannot be replaced there and was made unreadable instead."
            )
        return [Change(place(edit.start), place(edit.end), edit.new, token=False) for edit in edits]

    def _inline_drawings(self, view: View, part: str) -> None:
        """Codes in SVG elements of the markup, which hardly any mail client shows: reported."""
        from app.messages.qr import QrScan
        from app.messages.qr.svg import scan_svg

        for number, hit in enumerate(_INLINE_DRAWING.finditer(view.text)):
            if number == _MAX_INLINE:
                self.not_looked_at("SVG in the markup", part, f"only the first {_MAX_INLINE} drawings are looked at")
                return
            drawing = view.decode(*hit.span()).encode("utf-8", "replace")
            scan = self.looked("SVG in the markup", part, partial(scan_svg, drawing, budget=self.budget), QrScan())
            self.report([code.text for code in scan.codes], part, "is drawn with SVG in the markup")
            for note in scan.notes:
                self.not_looked_at("SVG in the markup", part, note)


def _apart(changes: list[Change], taken: Sequence[Change]) -> list[Change]:
    """Drop changes that touch one of those taken already."""
    if not taken or not changes:
        return changes
    others = sorted((change.start, change.end) for change in taken)
    starts = [start for start, _ in others]
    kept: list[Change] = []
    for change in changes:
        index = bisect_left(starts, change.end)
        if index == 0 or others[index - 1][1] <= change.start:
            kept.append(change)
    return kept


def _drawing_in(address: str, body: str) -> bytes:
    """The SVG file in a ``data:`` address that stands in an attribute (RFC 2397)."""
    if ";base64," in address[: len(address) - len(body)].lower():
        return _decoded(body)
    return unquote_to_bytes(attribute_value(body))


def _has_dense_table(source: str) -> bool:
    """Whether a row as long as a code's side stands in the source with hardly anything in its cells."""
    # A code's table is some kilobytes of nothing but cells: looking at a piece here and there finds one.
    tag = "<td" if "<td" in source else "<TD"
    for at in range(_STRIDE, len(source), _STRIDE):
        if source.count(tag, at, at + _PIECE) >= _FEW_CELLS:
            break
    else:
        return False
    if source.count(tag) >= _LEAST_CELLS:
        places: list[int] = []
        at = source.find(tag)
        while at >= 0:
            places.append(at)
            if len(places) >= _ROW and at - places[-_ROW] < _ROW * _CELL_CHARACTERS:
                return True
            at = source.find(tag, at + 3)
    return False


def _has_blocks(view: View, shown: str) -> bool:
    """Whether block characters may stand in a text; `shown` is what of the view is text, in its characters."""
    if shown.isascii():
        return False
    leads, blocks = _blocks_of(view.codec, view.is_text)
    # One character is looked for ten times as fast as two.
    if any(lead in shown for lead in leads) and any(block in shown for block in blocks):
        return True
    if not view.is_text:
        try:
            shown.encode("latin-1")
        except UnicodeEncodeError:
            pass  # characters that only a reference can have made
        else:
            return False
    return _SPELLED_BLOCKS.search(view.text) is not None


@lru_cache(maxsize=64)
def _blocks_of(codec: str, is_text: bool) -> tuple[str, tuple[str, ...]]:
    """Block characters as a view of this charset shows them, and what they begin with there."""
    if is_text:
        return _BLOCKS, tuple(_BLOCKS)
    if codec == "utf-8":
        return "\xe2", ("\xe2\x96", "\xe2\xac\x9b", "\xe2\xa3")  # what all of them begin with
    found = []
    for block in _BLOCKS:
        try:
            found.append(block.encode(codec).decode("latin-1"))
        except UnicodeEncodeError:
            continue
    return "".join(sorted({block[0] for block in found})), tuple(found)


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text)
    except (binascii.Error, ValueError):
        return b""
