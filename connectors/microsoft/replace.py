"""Changes the body of a received message in place, and makes sure of it.

Sources: https://learn.microsoft.com/graph/api/message-update (and its notice on the change of 31 December
2026, after which the permission ``Mail-Advanced.ReadWrite.All`` is needed),
https://learn.microsoft.com/graph/errors (412), RFC 9110 section 13.1.1 (``If-Match``).

* Only ``body`` is sent, as a fresh object: a fetched one would send subject and recipients along.
* ``If-Match`` carries the version that was transformed. On 412 the message is read again; writing is tried
  again, three times at most, only while the body still is the one that was transformed (somebody opened or
  flagged the mail). Where the body already is the new one, an earlier try took effect: go on to verify.
* What is read back is compared by meaning. Where it is wrong, the body as it was is put back.
* A write is never repeated blindly; after a time-out the caller asks again and the first rule decides.
"""

from __future__ import annotations

from typing import Any

from connectors.base.errors import (
    ConnectorError,
    MailboxOutOfScope,
    MessageGone,
    PermissionMissing,
    VersionConflict,
    WriteNotVerified,
)
from connectors.base.types import (
    BodyContent,
    FetchedMessage,
    MessageRef,
    Recorder,
    Replacement,
    ReplaceResult,
    ReplaceState,
    ReplaceStep,
)
from connectors.base.verify import Verification, verify_body
from connectors.microsoft.client import GraphClient, Reply, token_roles
from connectors.microsoft.errors import MAIL_ADVANCED, MAIL_READ_WRITE, GraphFault
from connectors.microsoft.fetch import body_content, message_request, message_version, parse_time

WRITE_ATTEMPTS = 3
_EVIDENCE_SECONDS = 3_600.0
_WRITING = "replacing a message's body"
_VERIFYING = "verifying a replaced body"
_DRAFT_ONLY_CODES = ("ErrorInvalidPropertySet", "ErrorAccessDenied", "ErrorPropertyUpdateNotAllowed")


async def replace_body(
    client: GraphClient, change: Replacement, record: Recorder, resume: ReplaceState | None = None
) -> ReplaceResult:
    """Write ``change.content`` over the message's body, verify, and record both steps.

    The operation is idempotent by comparison, so it needs no key: it looks at what the mailbox holds.

    Args:
        client: Graph.
        change: What to write. Its contents must be :class:`BodyContent`.
        record: Awaited after the write and after the verification.
        resume: The last recorded step of an earlier try.

    Raises:
        VersionConflict: The body is not ``change.original`` any more; nothing was written.
        WriteNotVerified: What came back is wrong; the message says whether the old body was put back.
        PermissionMissing: Writing is not allowed; nothing was written.
        MessageGone: The message no longer exists.
        TooLarge: Over Graph's limit of 4 MB; nothing was written.
        TypeError: The content is not a body.
    """
    old, new = change.original.content, change.content
    if not isinstance(old, BodyContent) or not isinstance(new, BodyContent):
        raise TypeError("Graph replaces bodies; MIME content cannot be written.")
    ref = change.original.ref
    if resume is None:
        version = await _write(client, change, old, new)
        await record(ReplaceState(ReplaceStep.WRITTEN, ref.id, version))
    message = (await _read(client, ref)).data
    got = body_content(message.get("body") or {})
    outcome = verify_body(new, got, change.expected_links, change.replaced_links)
    moved = _changed_properties(change.original, message)
    version = message_version(message)
    if got == old and not outcome.ok:
        raise WriteNotVerified("Graph accepted the new body but still gives the old one; nothing was changed.")
    if not outcome.ok or moved:
        await _put_back(client, change, old, version, outcome, moved, written_now=resume is None)
    if resume is None or resume.step is not ReplaceStep.VERIFIED:
        await record(ReplaceState(ReplaceStep.VERIFIED, ref.id, version))
    return ReplaceResult(ref, version, normalised=not outcome.identical, content=None if outcome.identical else got)


async def _write(client: GraphClient, change: Replacement, old: BodyContent, new: BodyContent) -> str:
    """PATCH under ``If-Match``; returns the new version."""
    ref = change.original.ref
    version = change.original.version
    for _ in range(WRITE_ATTEMPTS):
        reply = await _patch(client, ref, new, version)
        if reply.fault is None:
            client.note_write()
            return message_version(reply.data)
        if not _is_conflict(reply.fault):
            raise await _refusal(client, ref, reply.fault)
        current = (await _read(client, ref)).data
        version = message_version(current)
        body = body_content(current.get("body") or {})
        if is_already_written(change, new, body):
            return version
        if body != old:
            raise VersionConflict(
                "The message's body is not the one that was transformed any more; nothing was written."
            )
    raise VersionConflict(f"The message changed again and again ({WRITE_ATTEMPTS} attempts); nothing was written.")


def is_already_written(change: Replacement, new: BodyContent, body: BodyContent) -> bool:
    """Whether the body in the mailbox is the new one already: written by an earlier try."""
    if body == new:
        return True
    if body == change.original.content or not change.expected_links:
        return False
    return verify_body(new, body, change.expected_links, change.replaced_links).ok


async def _patch(client: GraphClient, ref: MessageRef, body: BodyContent, version: str) -> Reply:
    info = client.requests.set_body(ref.mailbox.id, ref.id, body)
    return await client.exchange(
        info,
        mailbox=ref.mailbox.id,
        read=False,
        what=_WRITING,
        headers={"if-match": version} if version else None,
    )


async def _read(client: GraphClient, ref: MessageRef) -> Reply:
    return await client.call(
        message_request(client, ref.mailbox.id, ref.id),
        mailbox=ref.mailbox.id,
        read=True,
        what=_VERIFYING,
        about_message=True,
    )


async def _put_back(
    client: GraphClient,
    change: Replacement,
    old: BodyContent,
    version: str,
    outcome: Verification,
    moved: list[str],
    *,
    written_now: bool,
) -> None:
    """The read-back is wrong: restore the old body if it is ours to restore, and raise."""
    reasons = ", ".join(filter(None, [str(outcome) if not outcome.ok else "", *moved]))
    if not written_now:
        # Between an earlier try and now anybody may have changed the mail: not ours to overwrite.
        raise WriteNotVerified(f"After a restart the body is not as written ({reasons}); it was left as it is.")
    try:
        reply = await _patch(client, change.original.ref, old, version)
        restored = reply.fault is None
        if restored:
            body = body_content((await _read(client, change.original.ref)).data.get("body") or {})
            restored = verify_body(old, body, change.replaced_links, change.expected_links).ok
    except MessageGone:
        raise
    except ConnectorError as error:
        raise WriteNotVerified(
            f"The body read back is wrong ({reasons}), and it is not known whether the original body was put back."
        ) from error
    state = "the original body was put back" if restored else "the original body could NOT be put back"
    raise WriteNotVerified(f"The body read back is wrong ({reasons}); {state}.")


def _changed_properties(original: FetchedMessage, message: dict[str, Any]) -> list[str]:
    """Properties that a change of the body must not touch. Read state and folder are the user's to change."""
    checks = {
        "isDraft": message.get("isDraft") is True,
        "receivedDateTime": original.received_at is not None
        and parse_time(message.get("receivedDateTime")) != original.received_at,
        "internetMessageId": bool(original.internet_message_id)
        and message.get("internetMessageId") != original.internet_message_id,
        "conversationId": bool(original.thread_id) and message.get("conversationId") != original.thread_id,
    }
    return [f"{name} changed" for name, changed in checks.items() if changed]


def _is_conflict(fault: GraphFault) -> bool:
    return fault.status == 412 or fault.has("ErrorIrresolvableConflict", "ErrorChangeKeyMismatch")


async def _refusal(client: GraphClient, ref: MessageRef, fault: GraphFault) -> ConnectorError:
    """What a refused write means.

    What Graph will say after 31 December 2026 is not documented, so both a 403 and the codes for a property that
    cannot be set mean that the permission is missing, which stops writing for the whole tenant. Two exceptions:
    where the mailbox was taken out of our scope since the message was read, reading it is refused now; and where
    the permissions are there and other messages were changed within the hour, it is this message that cannot be
    changed. Otherwise one odd message could end the protection of a tenant.
    """
    if fault.status != 403 and not (400 <= fault.status < 500 and fault.has(*_DRAFT_ONLY_CODES)):
        return await client.refused(fault, _WRITING, about_message=True)
    said = f"Graph refused to change a received message ({fault.status} {fault.code})"
    roles = token_roles(await client.fresh_token())
    info = client.requests.message(ref.mailbox.id, ref.id, ["id"])
    reading = await client.exchange(info, mailbox=ref.mailbox.id, read=True, what=_WRITING)
    if reading.fault is not None and reading.status == 403:
        outside = await client.refused(reading.fault, _WRITING, about_message=True)
        if isinstance(outside, MailboxOutOfScope):
            return outside
    granted = MAIL_ADVANCED in roles and MAIL_READ_WRITE in roles
    if (granted or await client.may_be_scoped()) and client.wrote_within(_EVIDENCE_SECONDS):
        return ConnectorError(
            f"{said}, although it changed others of this tenant within the hour. The message was left as it is."
        )
    reads = MAIL_READ_WRITE in roles or reading.fault is None
    which = MAIL_READ_WRITE if MAIL_ADVANCED in roles and not reads else MAIL_ADVANCED
    return PermissionMissing(
        which, f"{said}: {which} is missing or does not cover this mailbox. The message was left as it is."
    )
