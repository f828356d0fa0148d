"""Messages that must not be changed: what stands in them is reported all the same.

A message that is signed, or only made to look so, keeps its links. The administrator sees how many, why, and which of
them are suspicious; nothing of the message is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.messages.options import SUSPICIOUS_CODES
from app.messages.types import (
    Finding,
    FoundLink,
    LinkAction,
    RewrittenLink,
    SkipReason,
    TransformPlan,
    TransformWarning,
)

_WHY = {
    SkipReason.SIGNED: "the message is signed, and any change would make the signature invalid",
    SkipReason.ENCRYPTED: "the message is encrypted",
    SkipReason.PGP_INLINE: "the text is signed or encrypted with PGP, and any change would make it invalid",
    SkipReason.RIGHTS_MANAGED: "the message is rights-managed",
    SkipReason.CONFIDENTIAL_MODE: "the message is in Gmail's confidential mode",
    SkipReason.MEETING: "the message is about a meeting, which calendars read",
    SkipReason.REPORT: "the message is a delivery or read report, which programs read",
}
_OTHER = "the message must not be changed"
_MAX_NAMED = 5
_MARKED = SUSPICIOUS_CODES | {"dangerous_scheme"}


def reporting(plan: TransformPlan) -> TransformPlan:
    """The plan under which nothing is changed and everything is looked at."""
    return replace(plan, decide=lambda _: LinkAction.LEAVE, qr="report", remove_amp=False, rewrite_attachments=False)


def left(links: Sequence[RewrittenLink]) -> tuple[RewrittenLink, ...]:
    """Links as they are reported for a message that was left as it is."""
    return tuple(RewrittenLink(_unchanged(found.link), LinkAction.LEAVE, None) for found in links)


def _unchanged(link: FoundLink) -> FoundLink:
    if not any(finding.code == "dangerous_scheme" for finding in link.findings):
        return link
    return replace(link, findings=tuple(_still_there(finding) for finding in link.findings))


def _still_there(finding: Finding) -> Finding:
    if finding.code != "dangerous_scheme":
        return finding
    scheme = finding.evidence.get("scheme", "")
    return replace(finding, message=f"The link does not open a web page but uses “{scheme}:”; it was left.")


def warning(links: Sequence[RewrittenLink], part: str, reason: SkipReason | str) -> TransformWarning | None:
    """Say how many links were left, and why.

    Args:
        links: What was found.
        part: MIME part path, ``""`` for the whole message.
        reason: Why nothing was changed: a `SkipReason` or the connector's name for it.

    Returns:
        The warning ``links_left``; None where there was no link.
    """
    if not links:
        return None
    why = _WHY.get(SkipReason(reason), _OTHER) if reason in frozenset(SkipReason) else _OTHER
    codes = [{f.code for f in found.link.findings} & _MARKED for found in links]
    suspicious = [marked for marked in codes if marked]
    count = "One link was left as it is" if len(links) == 1 else f"{len(links)} links were left as they are"
    text = f"{count}, because {why}."
    if suspicious:
        named = sorted(set().union(*suspicious))
        names = ", ".join(named[:_MAX_NAMED]) + (", …" if len(named) > _MAX_NAMED else "")
        looks = "looks" if len(suspicious) == 1 else "look"
        text += f" {len(suspicious)} of them {looks} suspicious: {names}."
    return TransformWarning("links_left", part, text)
