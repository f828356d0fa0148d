"""What Gmail methods share: whose mailbox, quota, scopes and the message resource."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from connectors.emulators.google import mime
from connectors.emulators.google.api import Call, Method, Param, scopes
from connectors.emulators.google.errors import failed_precondition, forbidden, invalid
from connectors.emulators.google.mailbox import Mailbox, StoredMessage
from connectors.emulators.google.search import Query

FULL = "https://mail.google.com/"
MODIFY = scopes(FULL, "gmail.modify")
READ = MODIFY | scopes("gmail.readonly", "gmail.metadata")
READ_BODY = MODIFY | scopes("gmail.readonly")
INSERT = MODIFY | scopes("gmail.insert")
LABELS = MODIFY | scopes("gmail.labels")
COMPOSE = MODIFY | scopes("gmail.compose")
ADDON_COMPOSE = scopes("gmail.addons.current.action.compose")
ADDON_READ = scopes("gmail.addons.current.message.action", "gmail.addons.current.message.readonly")
ADDON_METADATA = scopes("gmail.addons.current.message.metadata")
DELETE = scopes(FULL)
_BODY_SCOPES = READ_BODY | ADDON_READ

USER = "/gmail/v1/users/{userId}"
FORMAT = Param(choices=("minimal", "full", "raw", "metadata"), default="full")
LIST_PARAMS = {
    "includeSpamTrash": Param("boolean"),
    "labelIds": Param(repeated=True),
    "maxResults": Param("integer", default="100"),
    "pageToken": Param(),
    "q": Param(),
}


def gate(call: Call, method: Method) -> str:
    """Who may use which mailbox, and for how many units.

    https://developers.google.com/workspace/gmail/api/guides/handle-errors and
    https://developers.google.com/identity/protocols/oauth2/service-account#error-codes. A service account
    without a user has no mailbox (400 failedPrecondition), and neither has a user without a licence ("Mail
    service not enabled"). The answer for a suspended user is not documented.

    Raises:
        ApiError: The mailbox cannot be used, or a limit is reached.
    """
    grant, wanted = call.grant, call.path["userId"]
    if grant.subject is None:
        raise failed_precondition()
    user = call.state.accounts.user(grant.subject)
    if user is None:
        raise failed_precondition("Mail service not enabled")
    if wanted != "me" and wanted.lower() not in user.addresses():
        raise forbidden(f"Delegation denied for {grant.subject}")
    if user.suspended:
        raise forbidden("The user is suspended.", "userSuspended")
    customer = call.state.accounts.customers.get(user.customer)
    if customer is not None and not customer.gmail_api:
        raise forbidden("The domain administrators have disabled Gmail apps.", "domainPolicy")
    if not user.mailbox:
        raise failed_precondition("Mail service not enabled")
    call.state.quota.spend(grant.project, user.id, method.units, call.state.behaviour)
    return user.id


def mailbox(call: Call) -> Mailbox:
    """The mailbox the call is about; :func:`gate` has allowed it."""
    return call.state.mailbox(call.grant.subject or "")


def reference(message: StoredMessage) -> dict[str, Any]:
    """Id and thread, as lists show messages."""
    return {"id": message.id, "threadId": message.thread_id}


def with_labels(box: Mailbox, message: StoredMessage) -> dict[str, Any]:
    """Id, thread and labels, as writing methods answer."""
    return {**reference(message), "labelIds": box.labels.order(message.labels)}


def resource(box: Mailbox, message: StoredMessage, form: str, only_headers: Sequence[str] = ()) -> dict[str, Any]:
    """The message in one of the four formats.

    https://developers.google.com/workspace/gmail/api/reference/rest/v1/Format
    """
    shown = {
        **with_labels(box, message),
        "snippet": message.text[:200],
        "sizeEstimate": len(message.raw),
        "historyId": str(message.history_id),
        "internalDate": str(message.internal_ms),
    }
    if message.classification:
        shown["classificationLabelValues"] = message.classification
    if form == "raw":
        shown["raw"] = mime.encode(message.raw)
    elif form != "minimal":
        shown["payload"] = mime.payload(message.raw, parts=form == "full", only=only_headers)
    return shown


def format_of(call: Call) -> str:
    """The format asked for.

    Raises:
        ApiError: 403 where a token for metadata asks for more.
    """
    form = str(call.query.get("format", "full"))
    if form in ("raw", "full") and not call.grant.scopes & _BODY_SCOPES:
        raise forbidden(f"Metadata scope doesn't allow format {form.upper()}")
    return form


def found(call: Call, box: Mailbox) -> list[StoredMessage]:
    """The messages that a list call selects, newest first.

    https://developers.google.com/workspace/gmail/api/guides/list-messages. Spam and trash are left out
    unless asked for by ``includeSpamTrash``, by a label or by the query.

    Raises:
        ApiError: 400 or 403 for a query that cannot be used.
    """
    text = str(call.query.get("q") or "")
    if text and not call.grant.scopes & _BODY_SCOPES:
        raise forbidden("Metadata scope does not support 'q' parameter")
    now = call.state.clock.timestamp()
    query = Query(text, now, box.labels)
    wanted = set(call.query.get("labelIds") or ())
    if not all(label in box.labels for label in wanted):
        raise invalid("Invalid label")
    everywhere = call.query.get("includeSpamTrash") or query.anywhere or wanted & {"SPAM", "TRASH"}
    searchable = now - call.state.behaviour.search_lag
    return [
        message
        for message in box.newest_first()
        if wanted <= message.labels
        and (everywhere or not message.labels & {"SPAM", "TRASH"})
        and (not text or (message.added_at <= searchable and query.matches(message)))
    ]


def page(call: Call, keys: Sequence[tuple[int, str]]) -> tuple[list[str], dict[str, Any]]:
    """One page of ids, and ``nextPageToken`` where there are more.

    A token names the place of the last entry, so that mail which arrives or goes while a client pages
    neither shifts nor repeats results.

    Args:
        call: With ``pageToken`` and ``maxResults``.
        keys: (internal date, id), newest first.

    Raises:
        ApiError: 400 for a token that was not given out.
    """
    token = str(call.query.get("pageToken") or "")
    if token:
        place = re.fullmatch(r"(\d+)([0-9a-f]{16})", token)
        if place is None:
            raise invalid("Invalid pageToken")
        keys = [key for key in keys if key < (int(place[1]), place[2])]
    size = call.page_size()
    shown = keys[:size]
    more = {"nextPageToken": f"{shown[-1][0]}{shown[-1][1]}"} if len(keys) > size else {}
    return [key[1] for key in shown], more


def unique(values: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(values))
