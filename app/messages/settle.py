"""Odd messages are transformed until nothing changes any more.

What a broken part means depends on where its bytes stand: base64 with foreign characters is read in another grouping
once a link before it has become longer, and a link that nobody could see before may come to light. Such a message is
transformed again until it stays as it is. One that does not settle is left alone and said so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.messages import undo as undo_record
from app.messages.restore import Opener, restore
from app.messages.transfer import RawSplice
from app.messages.types import LinkAction, TransformResult, TransformWarning

_MAX_PASSES = 4


def settled(
    raw: bytes, first: TransformResult, again: Callable[[bytes], TransformResult], open_link: Opener | None
) -> TransformResult:
    """Make sure that transforming a message once more changes nothing and that it can be restored.

    Args:
        raw: The message before.
        first: What became of it.
        again: Transforms a message.
        open_link: Opens gateway links; None where the plan cannot.

    Returns:
        The result of all passes as one, with an undo record where the links alone would not bring `raw` back; or the
        untouched message with the warning ``unsettled``.
    """
    passes = [first]
    while len(passes) <= _MAX_PASSES:
        last = passes[-1]
        following = again(last.content)
        if not following.changed:
            break
        passes.append(following)
    else:
        warning = TransformWarning(
            "unsettled", "", "The message reads differently each time it is changed; it was left as it is."
        )
        left = tuple(replace(found, action=LinkAction.LEAVE, gateway_url=None) for found in first.links)
        return TransformResult(raw, False, left, (*first.warnings, warning), None, None, first.findings)
    content = last.content
    undo = first.undo if len(passes) == 1 else None
    if undo is None and (len(passes) > 1 or (open_link is not None and restore(content, open_link).content != raw)):
        undo = undo_record.make(raw, [RawSplice(0, len(raw), content, False)], content)
    if len(passes) == 1:
        return first if undo is first.undo else replace(first, undo=undo)
    seen = {(warning.code, warning.part) for warning in first.warnings}
    return TransformResult(
        content,
        content != raw,
        tuple(found for done in passes for found in done.links if done is first or found.gateway_url is not None),
        first.warnings + tuple(w for done in passes[1:] for w in done.warnings if (w.code, w.part) not in seen),
        None,
        undo,
        first.findings,
    )
