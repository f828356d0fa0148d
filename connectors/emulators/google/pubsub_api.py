"""Cloud Pub/Sub REST API, v1.

https://cloud.google.com/pubsub/docs/reference/rest. IAM is reduced to one rule: a service account may do
everything in its own project and nothing in others; publishing for Gmail needs the topic's policy.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from connectors.emulators.google import mime
from connectors.emulators.google.api import Call, Method, Param, scopes
from connectors.emulators.google.errors import ApiError, forbidden, invalid
from connectors.emulators.google.pubsub import Subscription, Topic, check_push

_SCOPES = scopes("cloud-platform", "pubsub")
_READ_ONLY = frozenset({"name", "topic", "state", "detached"})
_DEFAULTS: dict[str, Any] = {
    "ackDeadlineSeconds": 10,
    "messageRetentionDuration": "604800s",
    "expirationPolicy": {"ttl": "2678400s"},
}
"""Of a new subscription; it expires after 31 idle days unless ``expirationPolicy`` says otherwise."""


def gate(call: Call, method: Method) -> None:
    """A service account acts in its own project only.

    Raises:
        ApiError: 403 for anybody else.
    """
    if not call.grant.service_account or call.grant.project != call.path["project"]:
        raise forbidden("User not authorized to perform this action.")


def _topic_name(call: Call) -> str:
    return f"projects/{call.path['project']}/topics/{call.path['topic']}"


def _subscription_name(call: Call) -> str:
    return f"projects/{call.path['project']}/subscriptions/{call.path['subscription']}"


def _missing(name: str) -> ApiError:
    return ApiError(404, f"Resource not found (resource={name.rpartition('/')[2]}).", "notFound")


def _topic(call: Call) -> Topic:
    topic = call.state.pubsub.topics.get(_topic_name(call))
    if topic is None:
        raise _missing(_topic_name(call))
    return topic


def _subscription(call: Call) -> Subscription:
    """The subscription asked for; using it keeps it from expiring."""
    call.state.pubsub.forget_idle()
    subscription = call.state.pubsub.subscriptions.get(_subscription_name(call))
    if subscription is None:
        raise _missing(_subscription_name(call))
    call.state.pubsub.touch(subscription.name)
    return subscription


def create_topic(call: Call) -> dict[str, Any]:
    """``projects.topics.create``."""
    name = _topic_name(call)
    if name in call.state.pubsub.topics:
        message = f"Resource already exists in the project (resource={call.path['topic']})."
        raise ApiError(409, message, "alreadyExists")
    fields: dict[str, Any] = {key: call.body[key] for key in ("labels", "messageRetentionDuration") if key in call.body}
    call.state.pubsub.topics[name] = Topic(name, {}, fields)
    return {"name": name, **fields}


def get_topic(call: Call) -> dict[str, Any]:
    """``projects.topics.get``."""
    topic = _topic(call)
    return {"name": topic.name, **topic.fields}


def list_topics(call: Call) -> dict[str, Any]:
    """``projects.topics.list``."""
    prefix = f"projects/{call.path['project']}/topics/"
    names = [name for name in call.state.pubsub.topics if name.startswith(prefix)]
    shown, more = _page(call, names)
    return {"topics": [{"name": name} for name in shown], **more} if shown else {}


def delete_topic(call: Call) -> dict[str, Any]:
    """``projects.topics.delete``: its subscriptions stay, with the topic ``_deleted-topic_``."""
    name = _topic(call).name
    del call.state.pubsub.topics[name]
    for subscription in call.state.pubsub.subscriptions.values():
        if subscription.topic == name:
            subscription.topic = "_deleted-topic_"
    return {}


def publish(call: Call) -> dict[str, Any]:
    """``projects.topics.publish``."""
    topic = _topic(call)
    messages = call.body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("The request contains no messages.")
    decoded: list[tuple[bytes, dict[str, str]]] = []
    for message in messages:
        if not isinstance(message, dict) or not (message.get("data") or message.get("attributes")):
            raise invalid("Some messages are empty: data or attributes are needed.")
        try:
            data = mime.decode(str(message.get("data") or ""))
        except ValueError:
            raise invalid("Invalid value at 'messages.data' (TYPE_BYTES), Base64 decoding failed") from None
        decoded.append((data, dict(message.get("attributes") or {})))
    return {"messageIds": [call.state.pubsub.publish(topic.name, data, extra) for data, extra in decoded]}


def get_policy(call: Call) -> dict[str, Any]:
    """``projects.topics.getIamPolicy``."""
    return _policy(_topic(call))


def set_policy(call: Call) -> dict[str, Any]:
    """``projects.topics.setIamPolicy``: replaces the policy; a stale ``etag`` is refused."""
    topic = _topic(call)
    policy = call.body.get("policy")
    if not isinstance(policy, dict):
        raise invalid("Invalid value at 'policy'")
    if policy.get("etag") and policy["etag"] != _policy(topic)["etag"]:
        message = "There were concurrent policy changes. Please retry the whole read-modify-write."
        raise ApiError(409, message, "aborted", status="ABORTED")
    bindings: dict[str, list[str]] = {}
    for binding in policy.get("bindings") or []:
        if not isinstance(binding, dict) or not isinstance(binding.get("role"), str):
            raise invalid("Invalid value at 'policy.bindings'")
        members = bindings.setdefault(binding["role"], [])
        members += [m for m in binding.get("members") or [] if m not in members]
    topic.bindings = bindings
    return _policy(topic)


def _policy(topic: Topic) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(topic.bindings, sort_keys=True).encode()).digest()[:8]
    policy: dict[str, Any] = {"etag": base64.b64encode(digest).decode("ascii"), "version": 1}
    if topic.bindings:
        policy["bindings"] = [{"role": role, "members": list(members)} for role, members in topic.bindings.items()]
    return policy


def test_permissions(call: Call) -> dict[str, Any]:
    """``projects.topics.testIamPermissions``: the project's own service account has them all."""
    _topic(call)
    granted = call.strings("permissions")
    return {"permissions": granted} if granted else {}


def list_topic_subscriptions(call: Call) -> dict[str, Any]:
    """``projects.topics.subscriptions.list``."""
    topic = _topic(call)
    names = [s.name for s in call.state.pubsub.subscriptions.values() if s.topic == topic.name]
    shown, more = _page(call, names)
    return {"subscriptions": shown, **more} if shown else {}


def _resource(subscription: Subscription) -> dict[str, Any]:
    return {
        "name": subscription.name,
        "topic": subscription.topic,
        "pushConfig": {},
        **subscription.fields,
        "state": "ACTIVE",
    }


def create_subscription(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.create``: push addresses have to be on loopback, the emulator's own rule."""
    name = _subscription_name(call)
    topic = str(call.body.get("topic") or "")
    if topic not in call.state.pubsub.topics:
        raise _missing(topic)
    if name in call.state.pubsub.subscriptions:
        message = f"Resource already exists in the project (resource={call.path['subscription']})."
        raise ApiError(409, message, "alreadyExists")
    fields = {**_DEFAULTS, **{k: v for k, v in call.body.items() if k not in _READ_ONLY}}
    _check_deadline(fields)
    try:
        return _resource(call.state.pubsub.subscribe(name, topic, fields))
    except ValueError as error:
        raise invalid(str(error)) from None


def _check_deadline(fields: dict[str, Any]) -> None:
    deadline = fields.get("ackDeadlineSeconds")
    if not isinstance(deadline, int) or not 10 <= deadline <= 600:
        raise invalid("Invalid ack deadline: it must be between 10 and 600 seconds.")


def get_subscription(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.get``."""
    return _resource(_subscription(call))


def list_subscriptions(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.list``."""
    prefix = f"projects/{call.path['project']}/subscriptions/"
    names = [name for name in call.state.pubsub.subscriptions if name.startswith(prefix)]
    shown, more = _page(call, names)
    known = call.state.pubsub.subscriptions
    return {"subscriptions": [_resource(known[name]) for name in shown], **more} if shown else {}


def patch_subscription(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.patch``: the fields named in ``updateMask``."""
    subscription = _subscription(call)
    given = call.body.get("subscription")
    mask = [name for name in str(call.body.get("updateMask") or "").split(",") if name]
    if not isinstance(given, dict) or not mask:
        raise invalid("The update_mask in the request must be set, and cannot be empty.")
    fields = dict(subscription.fields)
    for name in mask:
        field = name[0] + "".join(part.title() for part in name.split("_"))[1:] if "_" in name else name
        if field in _READ_ONLY:
            raise invalid(f"Invalid update_mask: {name} cannot be changed.")
        if field in given:
            fields[field] = given[field]
        else:
            fields.pop(field, None)
    _check_deadline({"ackDeadlineSeconds": 10, **fields})
    _apply(call, subscription, fields)
    return _resource(subscription)


def modify_push_config(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.modifyPushConfig``: an empty one makes it a pull subscription."""
    subscription = _subscription(call)
    config = call.body.get("pushConfig") or {}
    _apply(call, subscription, {**subscription.fields, "pushConfig": config})
    return {}


def _apply(call: Call, subscription: Subscription, fields: dict[str, Any]) -> None:
    try:
        check_push(fields)
    except ValueError as error:
        raise invalid(str(error)) from None
    subscription.fields = fields
    call.state.pubsub.offer_all()


def delete_subscription(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.delete``: what was not acknowledged is gone."""
    del call.state.pubsub.subscriptions[_subscription(call).name]
    return {}


def pull(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.pull``: empty after a while without messages."""
    subscription = _subscription(call)
    if subscription.push_config.get("pushEndpoint"):
        raise ApiError(
            400,
            "This method is not supported for this subscription type: it is a push subscription.",
            "failedPrecondition",
            status="FAILED_PRECONDITION",
        )
    limit = call.body.get("maxMessages")
    if not isinstance(limit, int) or limit < 1:
        raise invalid("Invalid max_messages: it must be a positive number.")
    received = call.state.pubsub.pull(subscription.name, min(limit, 1_000))
    return {"receivedMessages": received} if received else {}


def acknowledge(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.acknowledge``."""
    call.state.pubsub.acknowledge(_subscription(call).name, _ack_ids(call))
    return {}


def modify_ack_deadline(call: Call) -> dict[str, Any]:
    """``projects.subscriptions.modifyAckDeadline``: 0 to 600 seconds."""
    seconds = call.body.get("ackDeadlineSeconds", 0)
    if not isinstance(seconds, int) or not 0 <= seconds <= 600:
        raise invalid("Invalid ack deadline: it must be between 0 and 600 seconds.")
    call.state.pubsub.extend(_subscription(call).name, _ack_ids(call), seconds)
    return {}


def _ack_ids(call: Call) -> list[str]:
    ids = call.strings("ackIds")
    if not ids:
        raise invalid("No ack ids specified.")
    return ids


def _page(call: Call, names: list[str]) -> tuple[list[str], dict[str, Any]]:
    ordered = sorted(names)
    token = str(call.query.get("pageToken") or "")
    rest = [name for name in ordered if name > token]
    size = call.page_size("pageSize", default=100, most=1_000)
    return rest[:size], {"nextPageToken": rest[size - 1]} if len(rest) > size else {}


_PROJECT = "/pubsub/v1/projects/{project}"
_TOPIC = _PROJECT + "/topics/{topic}"
_SUBSCRIPTION = _PROJECT + "/subscriptions/{subscription}"
_PAGE = {"pageSize": Param("integer"), "pageToken": Param()}
_ID = "pubsub.projects."


def _method(name: str, http: str, path: str, handler: Any, **more: Any) -> Method:
    return Method(_ID + name, http, path, _SCOPES, handler, **more)


METHODS = (
    _method("topics.publish", "POST", _TOPIC + ":publish", publish, request=frozenset({"messages"})),
    _method(
        "topics.getIamPolicy",
        "GET",
        _TOPIC + ":getIamPolicy",
        get_policy,
        params={"options.requestedPolicyVersion": Param("integer")},
    ),
    _method("topics.setIamPolicy", "POST", _TOPIC + ":setIamPolicy", set_policy, request=frozenset({"policy"})),
    _method(
        "topics.testIamPermissions",
        "POST",
        _TOPIC + ":testIamPermissions",
        test_permissions,
        request=frozenset({"permissions"}),
    ),
    _method("topics.subscriptions.list", "GET", _TOPIC + "/subscriptions", list_topic_subscriptions, params=_PAGE),
    _method("topics.create", "PUT", _TOPIC, create_topic, request=frozenset({"labels"})),
    _method("topics.get", "GET", _TOPIC, get_topic),
    _method("topics.delete", "DELETE", _TOPIC, delete_topic),
    _method("topics.list", "GET", _PROJECT + "/topics", list_topics, params=_PAGE),
    _method(
        "subscriptions.pull",
        "POST",
        _SUBSCRIPTION + ":pull",
        pull,
        patient=True,
        request=frozenset({"maxMessages", "returnImmediately"}),
    ),
    _method(
        "subscriptions.acknowledge",
        "POST",
        _SUBSCRIPTION + ":acknowledge",
        acknowledge,
        request=frozenset({"ackIds"}),
    ),
    _method(
        "subscriptions.modifyAckDeadline",
        "POST",
        _SUBSCRIPTION + ":modifyAckDeadline",
        modify_ack_deadline,
        request=frozenset({"ackIds", "ackDeadlineSeconds"}),
    ),
    _method(
        "subscriptions.modifyPushConfig",
        "POST",
        _SUBSCRIPTION + ":modifyPushConfig",
        modify_push_config,
        request=frozenset({"pushConfig"}),
    ),
    _method(
        "subscriptions.create",
        "PUT",
        _SUBSCRIPTION,
        create_subscription,
        request=frozenset({"topic", *_DEFAULTS, "pushConfig"}),
    ),
    _method("subscriptions.get", "GET", _SUBSCRIPTION, get_subscription),
    _method(
        "subscriptions.patch",
        "PATCH",
        _SUBSCRIPTION,
        patch_subscription,
        request=frozenset({"subscription", "updateMask"}),
    ),
    _method("subscriptions.delete", "DELETE", _SUBSCRIPTION, delete_subscription),
    _method("subscriptions.list", "GET", _PROJECT + "/subscriptions", list_subscriptions, params=_PAGE),
)
