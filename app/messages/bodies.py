"""Bodies that are text already, as Microsoft Graph gives and takes them."""

from __future__ import annotations

from app.messages import embedded, leaving
from app.messages import undo as undo_record
from app.messages.charsets import StringView
from app.messages.classify import is_armoured
from app.messages.from_text import is_armoured_text
from app.messages.rewrite import Writer, splices
from app.messages.transfer import RawSplice
from app.messages.types import BodyResult, SkipReason, TransformPlan


def transform_body(content: str, is_html: bool, plan: TransformPlan) -> BodyResult:
    """Rewrite the links of a message body that is text already, as Microsoft Graph gives and takes it.

    Args:
        content: The body.
        is_html: Whether it is HTML rather than plain text.
        plan: What to do.

    Returns:
        The body with its links replaced. Never raises for what the body holds.
    """
    if is_armoured_text(content) if is_html else is_armoured(content.encode("utf-8", "replace")):
        return inspect_body(content, is_html, plan, SkipReason.PGP_INLINE)
    view = StringView(content)
    writer = Writer(plan, frozenset(plan.unsubscribe))
    pictures = embedded.Pictures(writer)
    if is_html:
        changes = writer.html(view, "1", view.bytes_of)
        changes += pictures.in_markup(view, "1", changes)
    else:
        changes = writer.text(view, "1", view.bytes_of)
        changes += pictures.in_text(view, "1", changes)
    made = [RawSplice(s.start, s.end, s.new, s.token) for s in splices(view, changes)]
    pieces: list[str] = []
    at = 0
    for splice in made:
        pieces += (content[at : splice.start], splice.new.decode("utf-8", "surrogatepass"))
        at = splice.end
    pieces.append(content[at:])
    new = "".join(pieces)
    return BodyResult(
        new,
        changed=new != content,
        links=tuple(writer.links),
        warnings=tuple(writer.warnings),
        undo=undo_record.make_text(content, made, new),
        findings=tuple(writer.findings),
    )


def inspect_body(content: str, is_html: bool, plan: TransformPlan, reason: SkipReason | str) -> BodyResult:
    """Report the links of a body that must not be changed.

    Args:
        content: The body.
        is_html: Whether it is HTML.
        plan: Tells how links are judged.
        reason: Why it is left alone; see `inspect`.
    """
    view = StringView(content)
    writer = Writer(leaving.reporting(plan), frozenset(plan.unsubscribe))
    pictures = embedded.Pictures(writer)
    if is_html:
        writer.html(view, "1", view.bytes_of)
        pictures.in_markup(view, "1", ())
    else:
        writer.text(view, "1", view.bytes_of)
        pictures.in_text(view, "1", ())
    links = leaving.left(writer.links)
    warning = leaving.warning(links, "", reason)
    return BodyResult(
        content,
        changed=False,
        links=links,
        warnings=(*writer.warnings, warning) if warning else tuple(writer.warnings),
        skipped=reason if isinstance(reason, SkipReason) else None,
        findings=tuple(writer.findings),
    )
