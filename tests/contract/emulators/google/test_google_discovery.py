"""The emulator against Google's own discovery documents, as google-api-python-client bundles them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient
import httpx
import pytest
from googleapiclient.http import MediaInMemoryUpload

from connectors.emulators.google.api import COMMON_PARAMETERS, Method
from connectors.emulators.google.app import (
    DIRECTORY_METHODS,
    DRIVE_METHODS,
    GMAIL_METHODS,
    IAM_METHODS,
    PUBSUB_METHODS,
)
from connectors.emulators.google.uploads import MAX_BYTES
from tests.contract.emulators.google.harness import (
    ADMIN,
    CUSTOMER,
    DOMAIN,
    FULL,
    IAM,
    MODIFY,
    PROJECT,
    PUBSUB,
    TOPIC,
    USER,
    Workspace,
    b64,
    mail,
)

DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
FAMILIES = (
    ("gmail.v1", "", GMAIL_METHODS),
    ("admin.directory_v1", "", DIRECTORY_METHODS),
    ("pubsub.v1", "/pubsub", PUBSUB_METHODS),
    ("iamcredentials.v1", "/iam", IAM_METHODS),
    ("drive.v3", "/drive/v3", DRIVE_METHODS),
)
ALL = [
    pytest.param(document, prefix, method, id=method.id) for document, prefix, methods in FAMILIES for method in methods
]


@cache
def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCUMENTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def methods_of(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from resource.get("methods", {}).values()
    for inner in resource.get("resources", {}).values():
        yield from methods_of(inner)


@cache
def described(name: str, method_id: str) -> dict[str, Any]:
    return next(m for m in methods_of(document(name)) if m["id"] == method_id)


@pytest.mark.parametrize(("name", "prefix", "method"), ALL)
def test_a_method_has_the_address_and_verb_of_the_discovery_document(name: str, prefix: str, method: Method) -> None:
    google = described(name, method.id)
    assert method.http == google["httpMethod"]
    flat = google.get("flatPath") or google["path"]
    assert re.sub(r"\{[^}]+\}", "{}", method.path) == f"{prefix}/" + re.sub(r"\{[^}]+\}", "{}", flat)


@pytest.mark.parametrize(("name", "prefix", "method"), ALL)
def test_a_method_takes_the_query_parameters_of_the_discovery_document(name: str, prefix: str, method: Method) -> None:
    google = described(name, method.id).get("parameters", {})
    query = {key: value for key, value in google.items() if value["location"] == "query"}
    if name == "admin.directory_v1":
        # "event" is for push channels of the directory, "query" of groups is a language of its own.
        query = {key: value for key, value in query.items() if key in method.params or key not in ("event", "query")}
    assert set(method.params) == set(query)
    for key, param in method.params.items():
        assert param.kind == query[key]["type"]
        assert param.repeated == query[key].get("repeated", False)
        if param.choices:
            assert set(param.choices) <= set(query[key]["enum"])
        if param.default is not None:
            assert param.default == query[key]["default"]


@pytest.mark.parametrize(("name", "prefix", "method"), ALL)
def test_a_method_is_allowed_by_the_scopes_of_the_discovery_document(name: str, prefix: str, method: Method) -> None:
    google = set(described(name, method.id)["scopes"])
    # https://www.googleapis.com/auth/iam is documented in the reference of IAM and used by google-auth.
    assert set(method.scopes) - {IAM} == google


@pytest.mark.parametrize(("name", "prefix", "method"), ALL)
def test_a_method_reads_only_fields_that_its_request_schema_has(name: str, prefix: str, method: Method) -> None:
    reference = described(name, method.id).get("request", {}).get("$ref")
    fields = set(document(name)["schemas"][reference]["properties"]) if reference else set()
    assert set(method.request) <= fields


@pytest.mark.parametrize(("name", "prefix", "method"), [p for p in ALL if p.values[2].upload])
def test_uploads_are_where_the_discovery_document_says(name: str, prefix: str, method: Method) -> None:
    media = described(name, method.id)["mediaUpload"]
    path = media["protocols"]["simple"]["path"]
    assert re.sub(r"\{[^}]+\}", "{}", "/upload" + method.path) == re.sub(r"\{[^}]+\}", "{}", path)
    if name == "gmail.v1":
        assert int(media["maxSize"]) <= MAX_BYTES


def test_common_parameters_are_those_of_the_discovery_document() -> None:
    assert COMMON_PARAMETERS - {"upload_id"} == set(document("gmail.v1")["parameters"])


# Answers


def check(value: Any, schema: dict[str, Any], name: str, where: str) -> None:
    """A value has only fields of the schema, each of the type it says."""
    if "$ref" in schema:
        schema = document(name)["schemas"][schema["$ref"]]
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        assert isinstance(value, dict), where
        unknown = set(value) - set(schema["properties"])
        assert not unknown, f"{where} has {sorted(unknown)}"
        for key, inner in value.items():
            check(inner, schema["properties"][key], name, f"{where}.{key}")
    elif kind == "array":
        assert isinstance(value, list), where
        for item in value:
            check(item, schema["items"], name, f"{where}[]")
    elif kind == "string":
        assert isinstance(value, str), where
        if "enum" in schema:
            assert value in schema["enum"], where
        if schema.get("format") in ("int64", "uint64"):
            assert value.isdecimal(), where
    elif kind == "integer":
        assert isinstance(value, int), where
        assert not isinstance(value, bool), where
    elif kind == "boolean":
        assert isinstance(value, bool), where


def conversation(workspace: Workspace) -> Iterator[tuple[str, Any]]:
    """Calls that together use every method, in an order that works."""
    state = workspace.state
    multipart = mail().replace(
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n",
        b'Content-Type: multipart/mixed; boundary="q"\r\n\r\n--q\r\nContent-Type: text/html\r\n\r\n<b>x</b>\r\n'
        b"--q\r\nContent-Type: text/csv; name=a.csv\r\n\r\n1,2\r\n--q--\r\n",
    )
    first = state.deliver(USER, multipart)
    gmail = workspace.gmail(USER, FULL, MODIFY)
    me = {"userId": "me"}
    profile = gmail.getProfile(**me)
    yield "gmail.users.getProfile", profile
    start = state.mailbox(USER).history_floor
    yield "gmail.users.watch", gmail.watch(**me, body={"topicName": TOPIC, "labelIds": ["INBOX"]})
    yield "gmail.users.stop", gmail.stop(**me)
    messages = gmail.messages()
    yield "gmail.users.messages.list", messages.list(**me, q="in:inbox")
    yield "gmail.users.messages.get", messages.get(**me, id=first)
    part = messages.get(**me, id=first).execute()["payload"]["parts"][1]
    yield (
        "gmail.users.messages.attachments.get",
        messages.attachments().get(**me, messageId=first, id=part["body"]["attachmentId"]),
    )
    classified = {"raw": b64(mail()), "labelIds": ["INBOX"], "classificationLabelValues": [{"labelId": "c1"}]}
    yield "gmail.users.messages.insert", messages.insert(**me, body=classified)
    yield "gmail.users.messages.import", messages.import_(**me, body={"raw": b64(mail(message_id="<i@x.example>"))})
    yield "gmail.users.messages.send", messages.send(**me, body={"raw": b64(mail(message_id="<s@x.example>"))})
    yield "gmail.users.messages.modify", messages.modify(**me, id=first, body={"addLabelIds": ["STARRED"]})
    batch = {"ids": [first], "removeLabelIds": ["STARRED"]}
    yield "gmail.users.messages.batchModify", messages.batchModify(**me, body=batch)
    yield "gmail.users.messages.trash", messages.trash(**me, id=first)
    yield "gmail.users.messages.untrash", messages.untrash(**me, id=first)
    labels = gmail.labels()
    yield "gmail.users.labels.list", labels.list(**me)
    yield "gmail.users.labels.create", labels.create(**me, body={"name": "Postern/Quarantine"})
    yield "gmail.users.labels.get", labels.get(**me, id="INBOX")
    hidden = {"labelListVisibility": "labelHide"}
    yield "gmail.users.labels.patch", labels.patch(**me, id="Label_1", body=hidden)
    yield "gmail.users.labels.update", labels.update(**me, id="Label_1", body={"name": "Held"})
    yield "gmail.users.labels.delete", labels.delete(**me, id="Label_1")
    threads = gmail.threads()
    thread = state.mailbox(USER).get(first).thread_id
    yield "gmail.users.threads.list", threads.list(**me)
    yield "gmail.users.threads.get", threads.get(**me, id=thread)
    yield "gmail.users.threads.modify", threads.modify(**me, id=thread, body={"addLabelIds": ["IMPORTANT"]})
    yield "gmail.users.threads.trash", threads.trash(**me, id=thread)
    yield "gmail.users.threads.untrash", threads.untrash(**me, id=thread)
    yield "gmail.users.history.list", gmail.history().list(**me, startHistoryId=str(start))
    drafts = gmail.drafts()
    yield "gmail.users.drafts.create", drafts.create(**me, body={"message": {"raw": b64(mail(message_id="<d@x.y>"))}})
    draft = next(iter(state.mailbox(USER).drafts))
    yield "gmail.users.drafts.list", drafts.list(**me)
    yield "gmail.users.drafts.get", drafts.get(**me, id=draft)
    renewed = {"message": {"raw": b64(mail(message_id="<e@x.example>"))}}
    yield "gmail.users.drafts.update", drafts.update(**me, id=draft, body=renewed)
    yield "gmail.users.drafts.send", drafts.send(**me, body={"id": draft})
    drafts.create(**me, body=renewed).execute()
    yield "gmail.users.drafts.delete", drafts.delete(**me, id=next(iter(state.mailbox(USER).drafts)))
    yield "gmail.users.threads.delete", threads.delete(**me, id=thread)
    second, third = (state.deliver(USER, mail(message_id=f"<{n}@x.example>")) for n in range(2))
    yield "gmail.users.messages.delete", messages.delete(**me, id=second)
    yield "gmail.users.messages.batchDelete", messages.batchDelete(**me, body={"ids": [third]})
    yield from directory_conversation(workspace)
    yield from pubsub_conversation(workspace)
    yield from iam_conversation(workspace)
    yield from drive_conversation(workspace)


def directory_conversation(workspace: Workspace) -> Iterator[tuple[str, Any]]:
    group = f"finance@{DOMAIN}"
    workspace.state.create_group(group, "Finance", {USER: "MEMBER", ADMIN: "OWNER"})
    api = workspace.directory()
    yield "directory.users.list", api.users().list(customer="my_customer")
    yield "directory.users.get", api.users().get(userKey=f"old.account@{DOMAIN}")
    yield "directory.groups.list", api.groups().list(customer=CUSTOMER)
    yield "directory.groups.get", api.groups().get(groupKey=group)
    yield "directory.members.list", api.members().list(groupKey=group)
    yield "directory.members.get", api.members().get(groupKey=group, memberKey=USER)
    yield "directory.members.hasMember", api.members().hasMember(groupKey=group, memberKey=USER)
    yield "directory.customers.get", api.customers().get(customerKey="my_customer")
    yield "directory.domains.list", api.domains().list(customer="my_customer")


def pubsub_conversation(workspace: Workspace) -> Iterator[tuple[str, Any]]:
    topic, name = f"projects/{PROJECT}/topics/extra", f"projects/{PROJECT}/subscriptions/extra"
    topics, subscriptions = workspace.pubsub().topics(), workspace.pubsub().subscriptions()
    yield "topics.create", topics.create(name=topic, body={})
    yield "topics.get", topics.get(topic=topic)
    yield "topics.list", topics.list(project=f"projects/{PROJECT}")
    policy = {"policy": {"bindings": [{"role": "roles/pubsub.publisher", "members": ["allUsers"]}]}}
    yield "topics.setIamPolicy", topics.setIamPolicy(resource=topic, body=policy)
    yield "topics.getIamPolicy", topics.getIamPolicy(resource=topic)
    wanted = {"permissions": ["pubsub.topics.publish"]}
    yield "topics.testIamPermissions", topics.testIamPermissions(resource=topic, body=wanted)
    yield "subscriptions.create", subscriptions.create(name=name, body={"topic": topic, "expirationPolicy": {}})
    yield "subscriptions.get", subscriptions.get(subscription=name)
    yield "subscriptions.list", subscriptions.list(project=f"projects/{PROJECT}")
    yield "topics.subscriptions.list", topics.subscriptions().list(topic=topic)
    change = {"subscription": {"name": name, "ackDeadlineSeconds": 20}, "updateMask": "ackDeadlineSeconds"}
    yield "subscriptions.patch", subscriptions.patch(name=name, body=change)
    yield "topics.publish", topics.publish(topic=topic, body={"messages": [{"data": "eA==", "attributes": {"a": "b"}}]})
    yield "subscriptions.pull", subscriptions.pull(subscription=name, body={"maxMessages": 10})
    ack = {"ackIds": [p.ack_id for p in workspace.state.pubsub.subscriptions[name].pending.values()]}
    yield (
        "subscriptions.modifyAckDeadline",
        subscriptions.modifyAckDeadline(subscription=name, body={**ack, "ackDeadlineSeconds": 60}),
    )
    yield "subscriptions.acknowledge", subscriptions.acknowledge(subscription=name, body=ack)
    push = {"pushConfig": {"pushEndpoint": "http://127.0.0.1:9/push"}}
    yield "subscriptions.modifyPushConfig", subscriptions.modifyPushConfig(subscription=name, body=push)
    yield "subscriptions.delete", subscriptions.delete(subscription=name)
    yield "topics.delete", topics.delete(topic=topic)


def iam_conversation(workspace: Workspace) -> Iterator[tuple[str, Any]]:
    name = f"projects/-/serviceAccounts/{workspace.key['client_email']}"
    api = workspace.service("iamcredentials", "v1", f"{workspace.base}/iam", None, IAM).projects().serviceAccounts()
    yield "signBlob", api.signBlob(name=name, body={"payload": "eA=="})
    claims = json.dumps({"exp": int(workspace.state.real_time()) + 600})
    yield "signJwt", api.signJwt(name=name, body={"payload": claims})
    yield "generateAccessToken", api.generateAccessToken(name=name, body={"scope": [PUBSUB], "lifetime": "600s"})
    yield "generateIdToken", api.generateIdToken(name=name, body={"audience": "https://x.example"})


def drive_conversation(workspace: Workspace) -> Iterator[tuple[str, Any]]:
    api = workspace.drive()
    yield "drive.files.create", api.files().create(body={"name": "plan.pdf"}, fields="*")
    file_id = next(iter(workspace.state.files))
    yield "drive.files.get", api.files().get(fileId=file_id, fields="*")
    yield "drive.files.update", api.files().update(fileId=file_id, body={"name": "plan 2.pdf"}, fields="*")
    soon = (workspace.state.clock.now() + timedelta(days=1)).isoformat()
    shared = {"type": "user", "role": "reader", "emailAddress": USER, "expirationTime": soon}
    yield "drive.permissions.create", api.permissions().create(fileId=file_id, body=shared, fields="*")
    yield "drive.permissions.list", api.permissions().list(fileId=file_id, fields="*")
    permission = list(workspace.state.files[file_id].permissions)[-1]
    yield "drive.permissions.delete", api.permissions().delete(fileId=file_id, permissionId=permission)
    yield "drive.files.delete", api.files().delete(fileId=file_id)


def test_every_answer_has_the_shape_of_its_schema(workspace: Workspace) -> None:
    families = {method.id: name for name, _, methods in FAMILIES for method in methods}
    used: set[str] = set()
    for short, request in conversation(workspace):
        method_id = next(
            m for m in families if m == short or m.endswith((f".projects.{short}", f".serviceAccounts.{short}"))
        )
        name = families[method_id]
        answer = request.execute()
        reference = described(name, method_id).get("response")
        if reference is None:
            assert not answer, method_id
        else:
            check(answer, reference, name, method_id)
            assert answer or reference["$ref"] == "Empty", method_id
        used.add(method_id)
    assert used == set(families)


def test_an_upload_answers_with_the_message_schema(workspace: Workspace) -> None:
    media = MediaInMemoryUpload(mail(), mimetype="message/rfc822")
    request = workspace.gmail().messages().insert(userId="me", body={"labelIds": ["INBOX"]}, media_body=media)
    check(workspace.upload(request), {"$ref": "Message"}, "gmail.v1", "insert")


def test_an_unknown_parameter_or_address_is_refused_in_googles_error_shape(workspace: Workspace) -> None:
    token = workspace.state.tokens.issue(
        subject=USER, client="1", service_account="", project=PROJECT, scopes=[MODIFY], lifetime=60
    )
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=workspace.base, headers=headers, trust_env=False) as client:
        unknown = client.get("/gmail/v1/users/me/messages", params={"query": "x"})
        assert unknown.status_code == 400
        assert 'Unknown name "query"' in unknown.json()["error"]["message"]
        assert client.get("/gmail/v1/users/me/nothing").json()["error"]["code"] == 404
        bad = client.post("/gmail/v1/users/me/watch", content=b"[1]")
        assert bad.json()["error"]["errors"][0]["reason"] == "parseError"


def test_a_partial_response_holds_the_fields_asked_for(workspace: Workspace) -> None:
    message_id = workspace.state.deliver(USER, mail())
    listed = workspace.gmail().messages().list(userId="me", fields="messages(id),nextPageToken").execute()
    assert listed == {"messages": [{"id": message_id}]}
    shown = workspace.gmail().messages().get(userId="me", id=message_id, fields="id,payload/headers/name").execute()
    assert set(shown) == {"id", "payload"}
    assert all(set(header) == {"name"} for header in shown["payload"]["headers"])
