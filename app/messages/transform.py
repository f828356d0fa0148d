"""The message transformer: bytes in, bytes out, nothing changed but the links."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from app.messages import embedded, leaving
from app.messages import undo as undo_record
from app.messages.attached import attachment
from app.messages.charsets import StringView, View, decode_whole, open_view
from app.messages.classify import classify_parts, is_armoured
from app.messages.coverage import Role, role_of, shown_as
from app.messages.marker import strip_marker
from app.messages.meta_charset import charset_in_markup, is_doubtful
from app.messages.mime import Part, Structure, parse
from app.messages.rewrite import Writer, splices
from app.messages.settle import settled
from app.messages.transfer import Body, RawSplice, Splice
from app.messages.transfer_base64 import Base64Body, is_mislabelled, open_body
from app.messages.types import (
    LinkAction,
    LinkKind,
    RewrittenLink,
    SkipReason,
    TransformPlan,
    TransformResult,
)

_MAX_FILE = 40 * 1024 * 1024
_ANGLE = re.compile(rb"<([^<>]*+)>")
_DEFECTS = {
    "no_boundary": "A multipart names no boundary, so its parts cannot be told apart; it was left as it is.",
    "boundary_not_found": "A multipart's boundary does not occur, so it has no parts; it was left as it is.",
    "no_separator": "A header is not followed by an empty line.",
    "no_final_boundary": "A multipart is cut off: its final boundary is missing.",
    "repeated_header": "A header field that decides how a part is read stands there more than once.",
    "too_many_parts": "The message has more parts than are looked at; the rest was left as it is.",
}


_MAX_ENCODED = 4
_HEAD = 4_000
_ENCODED = frozenset({"base64", "quoted-printable"})
_MESSAGES = frozenset({"message/rfc822", "message/global", "message/news"})


def transform(raw: bytes, plan: TransformPlan) -> TransformResult:
    """Rewrite the links of a message.

    Args:
        raw: The message as the provider has it.
        plan: What to do.

    Returns:
        The message with its links replaced, byte-identical elsewhere; or the input itself with the reason why it was
        left alone. Never raises for what the message holds.
    """
    structure = parse(raw)
    reason = classify_parts(raw, structure)
    if reason is not None:
        return _left_alone(raw, structure, plan, reason)
    message = _Message(raw, structure, plan, 0)
    done = message.run()
    if not done.changed or not message.is_odd:
        return done
    return settled(raw, done, lambda content: _Message(content, parse(content), plan, 0).run(), plan.open_link)


def inspect(raw: bytes, plan: TransformPlan, reason: str) -> TransformResult:
    """Report the links of a message that must not be changed for a reason that its source does not tell.

    Args:
        raw: The message.
        plan: Tells how links are judged.
        reason: Why it is left alone, such as the provider's word that it is signed.
    """
    return _left_alone(raw, parse(raw), plan, reason)


def _left_alone(raw: bytes, structure: Structure, plan: TransformPlan, reason: SkipReason | str) -> TransformResult:
    skipped = reason if isinstance(reason, SkipReason) else None
    if skipped is SkipReason.EMPTY:
        return TransformResult(raw, changed=False, skipped=skipped)
    message = _Message(raw, structure, leaving.reporting(plan), 0)
    message.run()
    return message.as_left(reason, skipped)


class _Message:
    """One message being transformed."""

    def __init__(self, raw: bytes, structure: Structure, plan: TransformPlan, depth: int) -> None:
        self.raw = raw
        self.depth = depth
        self.structure = structure
        self.plan = plan
        head = raw[:_HEAD]
        self.eol = b"\r\n" if b"\r" in head and b"\r\n" in head else b"\n"
        self.writer = Writer(plan, unsubscribe_targets(structure.root) | frozenset(plan.unsubscribe))
        self.pictures = embedded.Pictures(self.writer)
        self.raw_splices: list[RawSplice] = []
        self.is_odd = bool(structure.defects)
        """Whether what its parts mean may depend on where their bytes stand (see `settle`)."""

    def run(self) -> TransformResult:
        writer = self.writer
        for code, path in self.structure.defects:
            writer.warn(code, path, _DEFECTS[code])
        amp: list[Part] = []
        for part in self.structure.walk():
            if not part.is_leaf:
                continue
            if part.content_type in _MESSAGES and part.encoding in _ENCODED:
                self._encoded_message(part)
                continue
            role = role_of(part)
            if role is Role.HTML or role is Role.TEXT:
                self._leaf(part, role)
            elif role is Role.AMP:
                amp.append(part)
            elif role is not Role.NOTHING:
                self._file(part, role)
        self.pictures.joined()
        if not self.raw_splices:
            return self._unchanged()
        self.raw_splices.sort()
        open_headers = [part for part in self.structure.walk() if part.no_separator]
        if open_headers and self._reshaped([]) and self._separated(open_headers):
            writer.warn(
                "structure_at_risk", "", "A header runs into its body, so that a change would be read as header."
            )
            left = tuple(RewrittenLink(found.link, LinkAction.LEAVE, None) for found in writer.links)
            return TransformResult(self.raw, False, left, tuple(writer.warnings))
        if self.plan.remove_amp:
            for part in amp:
                self._remove(part)
        if strip_marker(self.raw) != self.raw:
            # It came with a field that restoring would take for ours: only a record can tell.
            self.raw_splices.append(RawSplice(0, 0, b"", False))
        self.raw_splices.sort()
        content = undo_record.apply(self.raw, self.raw_splices)
        return TransformResult(
            content,
            changed=content != self.raw,
            links=tuple(writer.links),
            warnings=tuple(writer.warnings),
            undo=undo_record.make(self.raw, self.raw_splices, content),
            findings=tuple(writer.findings),
        )

    def as_left(self, reason: SkipReason | str, skipped: SkipReason | None) -> TransformResult:
        """What was found in a message that is given out as it came."""
        writer = self.writer
        links = leaving.left(writer.links)
        warning = leaving.warning(links, "", reason)
        # One sentence for the message: those of its parts say the same.
        warnings = [w for w in writer.warnings if w.code not in ("links_left", "pgp_inline")]
        return TransformResult(
            self.raw,
            False,
            links,
            (*warnings, warning) if warning else tuple(warnings),
            skipped,
            None,
            tuple(writer.findings),
        )

    def _reshaped(self, separated: Sequence[Part]) -> bool:
        """Whether the changed message would be taken apart otherwise than the original."""
        after = parse(undo_record.apply(self.raw, self.raw_splices)).walk()
        added = {p.start: len(self.eol) for p in separated}
        before = [
            (p.path, p.content_type, p.body_start - p.start + added.get(p.start, 0)) for p in self.structure.walk()
        ]
        return before != [(p.path, p.content_type, p.body_start - p.start) for p in after]

    def _separated(self, parts: Sequence[Part]) -> bool:
        """Put the empty line behind headers that have none, so that no change is read as header; tell if it fails."""
        made = [RawSplice(p.body_start, p.body_start, self.eol, False) for p in parts]
        self.raw_splices = sorted([*self.raw_splices, *made])
        return self._reshaped(parts)

    def _unchanged(self) -> TransformResult:
        writer = self.writer
        return TransformResult(
            self.raw, False, tuple(writer.links), tuple(writer.warnings), None, None, tuple(writer.findings)
        )

    def _leaf(self, part: Part, role: Role) -> None:
        is_html = role is not Role.TEXT
        report_only = is_html and part.disposition == "attachment" and not self.plan.html_attachments
        body = self._open(part)
        if body is None:
            return
        named = charset_in_markup(body.data, part.charset) if is_html else None
        view = open_view(body.data, named or part.charset, is_certain=named is None)
        self.is_odd = self.is_odd or _is_odd(body, view) or (is_html and is_doubtful(body.data, part.charset))
        if role is Role.TEXT and is_armoured(body.data):
            self.writer.warn("pgp_inline", part.path, "The text is signed or encrypted with PGP and was left as it is.")
            if view is not None:
                before = len(self.writer.links)
                self.writer.report(view, part.path, LinkKind.TEXT, is_html=False)
                self._say_left(self.writer.links[before:], part, SkipReason.PGP_INLINE)
            return
        if report_only and view is not None:
            self.writer.report(view, part.path, LinkKind.ATTACHMENT, is_html=True)
        elif view is None:
            if not self._transcoded(part, body, named or part.charset, is_html) and named is not None:
                # Readers that do not go by what stands in the markup read it as it is.
                view = open_view(body.data, part.charset)
                if view is not None:
                    self._view(part, body, view, is_html)
        elif not self._view(part, body, view, is_html) and is_mislabelled(body) and self.plan.gateway not in view.text:
            plain = Body(body.raw)
            view = open_view(plain.data, part.charset)
            if view is not None:
                self._view(part, plain, view, is_html)

    def _open(self, part: Part) -> Body | None:
        body = open_body(self.raw[part.body_start : part.body_end], part.encoding, self.eol)
        if body is None:
            self.writer.warn("unknown_encoding", part.path, f"The part's encoding {part.encoding} is not supported.")
        return body

    def _file(self, part: Part, role: Role) -> None:
        """Read a part that is not the text of the message: an attachment, a calendar, a picture."""
        writer = self.writer
        if part.body_end - part.body_start > _MAX_FILE:
            writer.warn("too_large", part.path, "The attachment is too large to look for links in it.")
            return
        body = open_body(self.raw[part.body_start : part.body_end], part.encoding, self.eol)
        if body is None:
            writer.warn("unknown_encoding", part.path, f"The part's encoding {part.encoding} is not supported.")
            return
        if role is Role.SHOWN:
            writer.warn("not_covered", part.path, f"Links in {shown_as(part)} can be reported but not rewritten.")
        if role is Role.MARKUP and self.plan.rewrite_attachments:
            named = charset_in_markup(body.data, part.charset)
            view = open_view(body.data, named or part.charset, is_certain=named is None)
            if view is not None and not self._drawing(part, body):
                self.is_odd = self.is_odd or _is_odd(body, view)
                self._view(part, body, view, is_html=True)
            if view is not None:
                return
        if role is Role.PICTURE:
            new = self.pictures.picture(body.data, part.path)
        else:
            new = attachment(writer, self.pictures, part.filename, part.content_type, body.data, part.path)
        if new is not None:
            self._add(part, body.write([Splice(0, len(body.data), new, token=False)]))

    def _drawing(self, part: Part, body: Body) -> bool:
        """Whether an SVG file was drawn anew because of a QR code in it, so that no link is left in it."""
        if b"<svg" not in body.data[:_HEAD].lower() or b"<html" in body.data[:_HEAD].lower():
            return False
        new = self.pictures.drawing(body.data, part.path)
        if new is not None:
            self._add(part, body.write([Splice(0, len(body.data), new, token=False)]))
        return new is not None

    def _encoded_message(self, part: Part) -> None:
        """An attached message in an encoding that RFC 2046 section 5.2.1 forbids it, and that clients open anyway."""
        if self.depth >= _MAX_ENCODED:
            self.writer.warn("not_covered", part.path, "Attached messages are encoded inside one another too often.")
            return
        body = open_body(self.raw[part.body_start : part.body_end], part.encoding, self.eol)
        if body is None:
            return
        structure = parse(body.data)
        reason = classify_parts(body.data, structure)
        plan = self.plan if reason is None else leaving.reporting(self.plan)
        inner = _Message(body.data, structure, plan, self.depth + 1)
        done = inner.run()
        if reason is not None:
            done = inner.as_left(reason, reason)
        self.is_odd = self.is_odd or inner.is_odd
        for found in done.links:
            link = replace(found.link, part=f"{part.path}.{found.link.part}")
            self.writer.links.append(replace(found, link=link))
        for warning in done.warnings:
            self.writer.warn(warning.code, f"{part.path}.{warning.part}", warning.message)
        if done.changed:
            self._add(part, body.write([Splice(s.start, s.end, s.new, token=False) for s in inner.raw_splices]))

    def _say_left(self, links: Sequence[RewrittenLink], part: Part, reason: SkipReason) -> None:
        warning = leaving.warning(links, part.path, reason)
        if warning is not None:
            self.writer.warnings.append(warning)

    def _add(self, part: Part, made: list[RawSplice]) -> None:
        offset = part.body_start
        self.raw_splices += [RawSplice(s.start + offset, s.end + offset, s.new, s.token) for s in made]

    def _view(self, part: Part, body: Body, view: View, is_html: bool) -> bool:
        def source_of(start: int, end: int) -> bytes:
            return body.source(view.offset(start), view.offset(end))

        if is_html:
            changes = self.writer.html(view, part.path, source_of)
            changes += self.pictures.in_markup(view, part.path, changes)
        else:
            changes = self.writer.text(view, part.path, source_of)
            changes += self.pictures.in_text(view, part.path, changes)
        if not changes:
            return False
        if view.alternative is not None:
            for change in changes:
                change.token = False  # a link where only some readers see one is not found again
        if isinstance(body, Base64Body):
            body.space = view.encode(" ")
        made = body.write(splices(view, changes))
        if isinstance(body, Base64Body) and body.defective:
            self.writer.warn(
                "broken_base64",
                part.path,
                "The part's base64 is laid out by no rule; an undo record keeps it.",
            )
        self._add(part, made)
        return True

    def _transcoded(self, part: Part, body: Body, charset: str, is_html: bool) -> bool:
        """A charset in which no byte keeps its meaning (see `open_view`): the part is written again as a whole."""
        text, codec = decode_whole(body.data, charset)
        view = StringView(text)
        write = self.writer.html if is_html else self.writer.text
        changes = write(view, part.path, view.bytes_of)
        if not changes:
            return False
        pieces: list[str] = []
        at = 0
        for change in sorted(changes, key=lambda c: (c.start, c.end)):
            pieces += (text[at : change.start], change.new)
            at = change.end
        new = "".join(pieces) + text[at:]
        whole = Body(body.data) if type(body) is Body else body
        made = whole.write([Splice(0, len(body.data), new.encode(codec, "xmlcharrefreplace"), token=False)])
        self._add(part, made)
        return True

    def _remove(self, part: Part) -> None:
        """Take an AMP alternative out, boundary line and all; the last part of a multipart stays."""
        parent = part.parent
        if parent is None or part.delimiter < 0 or len(parent.children) < 2:
            self.writer.warn("amp_kept", part.path, "The AMP part is the only one and was left as it is.")
            return
        end = part.body_end
        for eol in (b"\r\n", b"\n", b"\r"):
            if self.raw.startswith(eol, end):
                end += len(eol)
                break
        self.raw_splices.append(RawSplice(part.delimiter, end, b"", False))


def _is_odd(body: Body, view: View | None) -> bool:
    """Whether readers may differ about what a part says."""
    if view is None or view.alternative is not None or view.is_stateful:
        return True
    return isinstance(body, Base64Body) and (body.defective or is_mislabelled(body))


def unsubscribe_targets(root: Part) -> frozenset[str]:
    """The http(s) targets of a message's ``List-Unsubscribe`` header (RFC 2369, RFC 8058)."""
    return unsubscribe_in(root.headers.get(b"list-unsubscribe", b""))


def unsubscribe_in(value: bytes) -> frozenset[str]:
    """The http(s) targets of the value of a ``List-Unsubscribe`` header."""
    if not value:
        return frozenset()
    targets = [hit[1].strip() for hit in _ANGLE.finditer(value)]
    return frozenset([target.decode("latin-1") for target in targets if target[:4].lower() == b"http"])


__all__ = ["inspect", "transform", "unsubscribe_in", "unsubscribe_targets"]
