"""Graph's JSON of what the state holds.

Documents: "message resource type" (https://learn.microsoft.com/graph/api/resources/message), "mailFolder resource
type", "fileAttachment resource type", "itemAttachment resource type", "user resource type", "group resource type",
"singleValueLegacyExtendedProperty resource type", each with the example that its page shows.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connectors.emulators.microsoft import bodies, ids
from connectors.emulators.microsoft.model import Address, Attachment, Folder, Group, Message, Person, Tenant
from connectors.emulators.microsoft.odata import short_property, split_expand
from connectors.emulators.microsoft.state import MicrosoftState

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a request asked for in ``Prefer`` headers (RFC 7240).

    Attributes:
        immutable_ids: ``IdType="ImmutableId"``.
        body_type: ``outlook.body-content-type``; HTML where nothing is asked.
        unsafe_html: ``outlook.allow-unsafe-html``.
        page_size: ``odata.maxpagesize``.
        applied: What ``Preference-Applied`` confirms.
    """

    immutable_ids: bool = False
    body_type: str = "html"
    unsafe_html: bool = False
    page_size: int | None = None
    applied: tuple[str, ...] = field(default=())


def read_preferences(headers: list[str]) -> Preferences:
    """Read all ``Prefer`` headers of a request; names compare without regard to case."""
    found: dict[str, str] = {}
    for header in headers:
        for item in header.split(","):
            name, _, value = item.strip().partition("=")
            found[name.strip().lower()] = value.strip().strip('"')
    applied: list[str] = []
    body_type = found.get("outlook.body-content-type", "").lower()
    if body_type in ("html", "text"):
        applied.append(f'outlook.body-content-type="{body_type}"')
    if "outlook.allow-unsafe-html" in found:
        applied.append("outlook.allow-unsafe-html")
    size = found.get("odata.maxpagesize", "")
    return Preferences(
        immutable_ids=found.get("idtype", "").lower() == "immutableid",
        body_type=body_type if body_type in ("html", "text") else "html",
        unsafe_html="outlook.allow-unsafe-html" in found,
        page_size=int(size) if size.isascii() and size.isdigit() and int(size) > 0 else None,
        applied=tuple(applied),
    )


def moment(value: datetime) -> str:
    """A DateTimeOffset in UTC, to the second as Exchange gives it."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def message_id(message: Message, prefer: Preferences) -> str:
    """The id in the form that was asked for."""
    return message.id if prefer.immutable_ids else ids.ordinary_id(message.id, message.folder_id)


def etag(message: Message) -> str:
    """``@odata.etag``: a weak validator made of the changeKey."""
    return f'W/"{ids.change_key(message.change)}"'


def conversation_index(message: Message) -> str:
    """``conversationIndex``: the same for all messages of a conversation here ([MS-OXOMSG] 2.2.1.3 adds times)."""
    return base64.b64encode(message.conversation_id.encode()[:34]).decode()


def _recipient(address: Address | None) -> Json | None:
    return None if address is None else {"emailAddress": {"name": address.name, "address": address.address}}


def _recipients(addresses: list[Address]) -> list[Json | None]:
    return [_recipient(address) for address in addresses]


def render_body(message: Message, prefer: Preferences) -> Json:
    """``body`` in the format that was asked for, without unsafe HTML unless that was asked for."""
    content = message.body
    if prefer.body_type == "html" and message.body_type == "text":
        content = bodies.text_to_html(content)
    elif prefer.body_type == "text" and message.body_type == "html":
        content = bodies.html_to_text(content)
    if prefer.body_type == "html" and not prefer.unsafe_html:
        content = bodies.remove_unsafe(content)
    return {"contentType": prefer.body_type, "content": content}


_FIELDS: dict[str, Callable[[Message, Preferences], object]] = {
    "createdDateTime": lambda message, _: moment(message.created_at),
    "lastModifiedDateTime": lambda message, _: moment(message.modified_at),
    "changeKey": lambda message, _: ids.change_key(message.change),
    "categories": lambda message, _: list(message.categories),
    "receivedDateTime": lambda message, _: moment(message.received_at),
    "sentDateTime": lambda message, _: moment(message.sent_at),
    # Inline attachments do not count ("message resource type", hasAttachments).
    "hasAttachments": lambda message, _: any(not each.is_inline for each in message.attachments),
    "internetMessageId": lambda message, _: message.internet_message_id,
    "subject": lambda message, _: message.subject,
    "bodyPreview": lambda message, _: bodies.preview(message.body_type, message.body),
    "importance": lambda message, _: message.importance,
    "parentFolderId": lambda message, _: message.folder_id,
    "conversationId": lambda message, _: message.conversation_id,
    "conversationIndex": lambda message, _: conversation_index(message),
    "isDeliveryReceiptRequested": lambda _, __: False,
    "isReadReceiptRequested": lambda _, __: False,
    "isRead": lambda message, _: message.is_read,
    "isDraft": lambda message, _: message.is_draft,
    "webLink": lambda message, prefer: f"https://outlook.office365.com/owa/?ItemID={message_id(message, prefer)}",
    "inferenceClassification": lambda message, _: message.inference,
    "body": render_body,
    "sender": lambda message, _: _recipient(message.sender),
    "from": lambda message, _: _recipient(message.from_),
    "toRecipients": lambda message, _: _recipients(message.to),
    "ccRecipients": lambda message, _: _recipients(message.cc),
    "bccRecipients": lambda message, _: _recipients(message.bcc),
    "replyTo": lambda message, _: _recipients(message.reply_to),
    "flag": lambda message, _: {"flagStatus": message.flag},
}
_ON_REQUEST: dict[str, Callable[[Message, Preferences], object]] = {
    # "internetMessageHeaders: Returned only on applying a $select query option."
    "internetMessageHeaders": lambda message, _: [{"name": name, "value": value} for name, value in message.headers],
}
_NAMES = {name.lower(): name for name in (*_FIELDS, *_ON_REQUEST)}

SORTABLE: dict[str, Callable[[Message], object]] = {
    "receivedDateTime": lambda message: message.received_at,
    "sentDateTime": lambda message: message.sent_at,
    "createdDateTime": lambda message: message.created_at,
    "lastModifiedDateTime": lambda message: message.modified_at,
    "subject": lambda message: message.subject,
    "isRead": lambda message: message.is_read,
    "isDraft": lambda message: message.is_draft,
    "importance": lambda message: message.importance,
    "hasAttachments": lambda message: any(not each.is_inline for each in message.attachments),
    "internetMessageId": lambda message: message.internet_message_id,
    "conversationId": lambda message: message.conversation_id,
    "parentFolderId": lambda message: message.folder_id,
    "inferenceClassification": lambda message: message.inference,
    "from/emailAddress/address": lambda message: message.from_.address if message.from_ else None,
    "sender/emailAddress/address": lambda message: message.sender.address if message.sender else None,
}
"""Properties of a message that can be filtered and sorted by."""


def render_message(message: Message, prefer: Preferences, select: str | None = None, expand: str | None = None) -> Json:
    """A message.

    Args:
        select: ``$select``; unknown names are left out of the answer.
        expand: ``$expand``: attachments, singleValueExtendedProperties.
    """
    out: Json = {"@odata.etag": etag(message), "id": message_id(message, prefer)}
    if message.odata_type != "#microsoft.graph.message":
        out = {"@odata.type": message.odata_type, **out}
    if select is None:
        wanted = list(_FIELDS)
    else:
        wanted = [_NAMES[name] for name in (part.strip().lower() for part in select.split(",")) if name in _NAMES]
    for name in wanted:
        out[name] = (_FIELDS.get(name) or _ON_REQUEST[name])(message, prefer)
    if message.meeting_type is not None and (select is None or "meetingmessagetype" in select.lower()):
        out["meetingMessageType"] = message.meeting_type
    for relation, options in split_expand(expand or "").items():
        if relation == "attachments":
            out["attachments"] = [render_attachment(each, with_content=True) for each in message.attachments]
        elif relation == "singleValueExtendedProperties":
            properties = _extended(message, options)
            if properties:
                out["singleValueExtendedProperties"] = properties
    return out


_BY_HEADER = {
    # [MS-OXCMAIL] 2.1.3.2.15 and 2.1.3.2.5, 2.1.3.2.6
    "list-unsubscribe": "String 0x1045",
    "references": "String 0x1039",
    "in-reply-to": "String 0x1042",
}


def _extended(message: Message, options: str) -> list[Json]:
    """Extended properties asked for by ``$filter=id eq '<id>'``, joined by ``or``.

    "Get singleValueLegacyExtendedProperty": String 0x001A is PidTagMessageClass (MS-OXPROPS).
    """
    known = {"String 0x001A": message.message_class, **message.extended}
    for name, value in message.headers:
        if name.lower() in _BY_HEADER:
            known[_BY_HEADER[name.lower()]] = value
    by_name = {name.lower(): name for name in known}
    found: list[Json] = []
    for wanted in re.findall(r"id\s+eq\s+'([^']*)'", options):
        for name in by_name:
            if short_property(name) == short_property(wanted):
                found.append({"id": by_name[name].replace("0x00", "0x"), "value": known[by_name[name]]})
    return found


def render_attachment(attachment: Attachment, *, with_content: bool) -> Json:
    """A fileAttachment or itemAttachment."""
    out: Json = {
        "@odata.type": f"#microsoft.graph.{attachment.kind}Attachment",
        "@odata.mediaContentType": attachment.content_type,
        "id": attachment.id,
        "lastModifiedDateTime": moment(attachment.modified_at),
        "name": attachment.name,
        "contentType": attachment.content_type,
        "size": len(attachment.content),
        "isInline": attachment.is_inline,
    }
    if attachment.kind == "file":
        out["contentId"] = attachment.content_id
        out["contentLocation"] = None
        if with_content:
            out["contentBytes"] = base64.b64encode(attachment.content).decode("ascii")
    return out


def render_folder(state: MicrosoftState, folder: Folder) -> Json:
    """A mailFolder with its counts."""
    messages = state.messages_of(folder.user_id, folder.id)
    children = [each for each in state.folders_of(folder.user_id) if each.parent_id == folder.id]
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent_id,
        "childFolderCount": len(children),
        "unreadItemCount": sum(not message.is_read for message in messages),
        "totalItemCount": len(messages),
        "sizeInBytes": sum(len(message.raw or b"") for message in messages),
        "isHidden": folder.hidden,
    }


def select_from(value: Json, select: str | None) -> Json:
    """Only the selected properties, and always ``id`` and annotations."""
    if select is None:
        return value
    wanted = {part.strip().lower() for part in select.split(",")} | {"id"}
    return {name: each for name, each in value.items() if name.startswith("@") or name.lower() in wanted}


def render_person(person: Person, select: str | None) -> Json:
    """A user: the default properties, or those selected ("List users")."""
    first, _, last = person.name.partition(" ")
    everything: Json = {
        "id": person.id,
        "businessPhones": [],
        "displayName": person.name,
        "givenName": first,
        "jobTitle": None,
        "mail": person.address if person.has_mailbox else None,
        "mobilePhone": None,
        "officeLocation": None,
        "preferredLanguage": None,
        "surname": last,
        "userPrincipalName": person.address,
    }
    on_request: Json = {
        "accountEnabled": person.enabled,
        "userType": "Member",
        "proxyAddresses": [f"SMTP:{person.address}", *(f"smtp:{alias}" for alias in person.aliases)],
        "otherMails": [],
        "assignedPlans": [{"service": "exchange", "capabilityStatus": "Enabled"}] if person.has_mailbox else [],
    }
    return everything if select is None else select_from({**everything, **on_request}, select)


def render_group(group: Group) -> Json:
    """A group."""
    return {
        "id": group.id,
        "displayName": group.name,
        "mail": group.address,
        "mailEnabled": group.address is not None,
        "securityEnabled": True,
        "groupTypes": [],
    }


def render_organization(tenant: Tenant) -> Json:
    """An organization."""
    domains = [
        {"name": name, "isDefault": index == 0, "isInitial": False, "type": "Managed", "capabilities": "Email"}
        for index, name in enumerate(tenant.domains)
    ]
    return {"id": tenant.id, "displayName": tenant.name, "verifiedDomains": domains}


def collection(context: str, values: list[Json], next_link: str | None = None, count: int | None = None) -> Json:
    """An OData collection."""
    out: Json = {"@odata.context": context}
    if count is not None:
        out["@odata.count"] = count
    out["value"] = values
    if next_link is not None:
        out["@odata.nextLink"] = next_link
    return out


def getter(message: Message) -> Callable[[str], object]:
    """Property values of a message for filters."""

    def get(name: str) -> object:
        return SORTABLE[name](message)

    return get


def as_mapping(value: object) -> Mapping[str, object]:
    """A JSON object, or an empty one where something else was sent."""
    return value if isinstance(value, dict) else {}
