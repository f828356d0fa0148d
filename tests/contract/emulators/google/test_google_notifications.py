"""Watches and Pub/Sub: by push with a signed token, and by pull."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from connectors.emulators.common.faults import FaultKind, FaultRule
from tests.contract.emulators.google.harness import (
    CUSTOMER,
    MODIFY,
    PROJECT,
    TOPIC,
    USER,
    Inbox,
    Workspace,
    mail,
    refused,
    until,
)

SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/gmail"
PUSHER = f"pusher@{PROJECT}.iam.gserviceaccount.com"


def data_of(message: dict[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.b64decode(message["data"]))
    return decoded


def watch(workspace: Workspace, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = workspace.gmail().watch(userId="me", body={"topicName": TOPIC, **fields}).execute()
    return answer


def pulled(workspace: Workspace) -> list[dict[str, Any]]:
    """What is waiting, acknowledged."""
    subscriptions = workspace.pubsub().subscriptions()
    answer = subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 100}).execute()
    received = answer.get("receivedMessages", [])
    if received:
        ids = {"ackIds": [item["ackId"] for item in received]}
        subscriptions.acknowledge(subscription=SUBSCRIPTION, body=ids).execute()
    return [data_of(item["message"]) for item in received]


def test_a_delivery_is_pushed_with_a_token_that_verifies_against_the_published_keys(
    workspace: Workspace, inbox: Inbox
) -> None:
    workspace.state.create_subscription(
        SUBSCRIPTION, TOPIC, push_endpoint=inbox.url, audience="https://hook.example", service_account_email=PUSHER
    )
    answer = watch(workspace)
    inbox.wait(1)
    workspace.state.clock.advance(2)
    workspace.state.deliver(USER, mail())
    headers, body = inbox.wait(2)[1]
    note = data_of(body["message"])
    assert note["emailAddress"] == USER
    assert int(note["historyId"]) > int(answer["historyId"])
    assert body["subscription"] == SUBSCRIPTION
    assert body["message"]["messageId"] == body["message"]["message_id"]
    keys = httpx.get(f"{workspace.base}/oauth2/v3/certs", trust_env=False).json()
    token = jwt.decode(headers["Authorization"].removeprefix("Bearer "), KeySet.import_key_set(keys))
    assert token.header["alg"] == "RS256"
    assert token.claims["iss"] == workspace.base
    assert token.claims["aud"] == "https://hook.example"
    assert token.claims["email"] == PUSHER
    assert token.claims["email_verified"] is True


def test_a_push_is_tried_again_until_it_is_acknowledged(workspace: Workspace, inbox: Inbox) -> None:
    workspace.state.behaviour.push_backoff_min = 0.01
    inbox.answers = [500, 429, 302, 204]
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC, push_endpoint=inbox.url)
    watch(workspace)
    tries = inbox.wait(4)
    assert len({body["message"]["messageId"] for _, body in tries}) == 1
    assert "Authorization" not in tries[0][0]
    until(lambda: not workspace.state.pubsub.subscriptions[SUBSCRIPTION].pending)
    assert len(inbox.requests) == 4


def test_pulled_messages_come_again_until_they_are_acknowledged(workspace: Workspace) -> None:
    workspace.state.behaviour.pull_wait = 0.0
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC)
    watch(workspace)
    subscriptions = workspace.pubsub().subscriptions()
    first = subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 5}).execute()["receivedMessages"]
    assert data_of(first[0]["message"])["emailAddress"] == USER
    assert subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 5}).execute() == {}
    workspace.state.clock.advance(11)
    again = subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 5}).execute()["receivedMessages"]
    assert again[0]["message"]["messageId"] == first[0]["message"]["messageId"]
    acknowledged = {"ackIds": [again[0]["ackId"]]}
    subscriptions.acknowledge(subscription=SUBSCRIPTION, body=acknowledged).execute()
    workspace.state.clock.advance(11)
    assert subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 5}).execute() == {}


def test_more_than_one_notification_per_second_and_user_is_dropped(workspace: Workspace) -> None:
    # An hour instead of a second, so that a slow machine cannot change the outcome.
    workspace.state.behaviour.notification_interval = 3_600
    workspace.state.behaviour.pull_wait = 0.0
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC)
    watch(workspace)
    assert len(pulled(workspace)) == 1
    workspace.state.clock.advance(3_601)
    for number in range(5):
        workspace.state.deliver(USER, mail(message_id=f"<{number}@x.example>"))
    burst = pulled(workspace)
    assert len(burst) == 1
    workspace.state.clock.advance(3_601)
    workspace.state.deliver(USER, mail(message_id="<later@x.example>"))
    assert pulled(workspace)[0]["historyId"] > burst[0]["historyId"]


def test_an_own_insert_is_notified_like_any_other_mail(workspace: Workspace) -> None:
    workspace.state.behaviour.pull_wait = 0.0
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC)
    watch(workspace)
    pulled(workspace)
    workspace.state.clock.advance(2)
    raw = base64.urlsafe_b64encode(mail()).decode()
    workspace.gmail().messages().insert(userId="me", body={"raw": raw, "labelIds": ["INBOX"]}).execute()
    assert len(pulled(workspace)) == 1


@pytest.mark.parametrize(("behaviour", "notified"), [("include", ["INBOX"]), ("exclude", ["SPAM"])])
def test_a_watch_filters_by_label(workspace: Workspace, behaviour: str, notified: list[str]) -> None:
    workspace.state.behaviour.pull_wait = 0.0
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC)
    watch(workspace, labelIds=["INBOX"], labelFilterBehavior=behaviour)
    pulled(workspace)
    seen: list[str] = []
    for label in ("INBOX", "SPAM"):
        workspace.state.clock.advance(2)
        workspace.state.deliver(USER, mail(), labels=(label,))
        seen += [label] * len(pulled(workspace))
    assert seen == notified


def test_a_second_topic_is_refused_until_the_watch_is_stopped(workspace: Workspace) -> None:
    other = f"projects/{PROJECT}/topics/other"
    workspace.state.create_topic(other)
    first = watch(workspace)
    assert int(watch(workspace)["expiration"]) >= int(first["expiration"])
    request = workspace.gmail().watch(userId="me", body={"topicName": other})
    assert refused(request) == (400, "invalidArgument")
    workspace.gmail().stop(userId="me").execute()
    assert request.execute()["historyId"]


def test_each_project_has_a_watch_of_its_own(workspace: Workspace) -> None:
    state = workspace.state
    other = state.create_service_account("postern@another.iam.gserviceaccount.com")
    state.delegate(CUSTOMER, other["client_id"], [MODIFY])
    state.create_topic("projects/another/topics/gmail")
    state.create_subscription("projects/another/subscriptions/s", "projects/another/topics/gmail")
    watch(workspace)
    mine, workspace.key = workspace.key, other
    theirs = workspace.gmail(USER, MODIFY)
    workspace.key = mine
    theirs.watch(userId="me", body={"topicName": "projects/another/topics/gmail"}).execute()
    workspace.gmail().stop(userId="me").execute()
    state.clock.advance(2)
    state.deliver(USER, mail())
    assert len(state.pubsub.subscriptions["projects/another/subscriptions/s"].pending) == 2
    theirs.stop(userId="me").execute()
    assert state.mailbox(USER).watch is None


def test_a_watch_ends_after_seven_days(workspace: Workspace) -> None:
    workspace.state.behaviour.pull_wait = 0.0
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC)
    expiration = int(watch(workspace)["expiration"])
    assert expiration == pytest.approx((workspace.state.clock.timestamp() + 7 * 86_400) * 1000, abs=60_000)
    pulled(workspace)
    workspace.state.clock.advance(7 * 86_400 + 1)
    workspace.state.deliver(USER, mail())
    assert pulled(workspace) == []


def test_a_watch_needs_a_topic_of_the_own_project_that_gmail_may_publish_to(workspace: Workspace) -> None:
    silent = f"projects/{PROJECT}/topics/silent"
    workspace.state.create_topic(silent, gmail_may_publish=False)
    gmail = workspace.gmail()
    expected = {
        "projects/another/topics/gmail": (400, "invalidArgument"),
        f"projects/{PROJECT}/topics/missing": (404, "notFound"),
        silent: (403, "forbidden"),
    }
    for topic, answer in expected.items():
        assert refused(gmail.watch(userId="me", body={"topicName": topic})) == answer


def test_pushes_go_to_loopback_only(workspace: Workspace) -> None:
    body = {"topic": TOPIC, "pushConfig": {"pushEndpoint": "https://hook.example/push"}}
    request = workspace.pubsub().subscriptions().create(name=SUBSCRIPTION, body=body)
    assert refused(request) == (400, "invalidArgument")
    assert SUBSCRIPTION not in workspace.state.pubsub.subscriptions


def test_lost_and_doubled_pushes_follow_the_fault_rules(workspace: Workspace, inbox: Inbox) -> None:
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC, push_endpoint=inbox.url)
    workspace.state.faults.add(FaultRule(FaultKind.LOSE, path="/push", limit=1))
    workspace.state.faults.add(FaultRule(FaultKind.DUPLICATE, path="/push", limit=1))
    watch(workspace)
    until(lambda: workspace.state.faults.counts["lose"] == 1)
    until(lambda: not workspace.state.pubsub.subscriptions[SUBSCRIPTION].pending)
    assert inbox.requests == []
    workspace.state.clock.advance(2)
    workspace.state.deliver(USER, mail())
    first, second = inbox.wait(2)
    assert first[1] == second[1]


def test_a_push_that_is_held_back_is_overtaken(workspace: Workspace, inbox: Inbox) -> None:
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC, push_endpoint=inbox.url)
    workspace.state.faults.set_rules([FaultRule(FaultKind.REORDER, path="/push", limit=1, delay=1.0)], seed=0)
    watch(workspace)
    until(lambda: workspace.state.faults.counts["reorder"] == 1)
    workspace.state.clock.advance(2)
    workspace.state.deliver(USER, mail())
    late, early = (data_of(body["message"])["historyId"] for _, body in inbox.wait(2))
    assert late > early


@pytest.mark.parametrize(("kind", "copies"), [(FaultKind.LOSE, 0), (FaultKind.DUPLICATE, 2)])
def test_lost_and_doubled_messages_of_a_pull_subscription_follow_the_fault_rules(
    workspace: Workspace, kind: FaultKind, copies: int
) -> None:
    workspace.state.behaviour.pull_wait = 0.0
    workspace.state.create_subscription(SUBSCRIPTION, TOPIC)
    workspace.state.faults.add(FaultRule(kind, path=SUBSCRIPTION, limit=1))
    watch(workspace)
    notes = pulled(workspace)
    assert len(notes) == copies
    assert all(note == notes[0] for note in notes)
    assert pulled(workspace) == []


def test_a_foreign_project_is_not_to_be_used(workspace: Workspace) -> None:
    request = workspace.pubsub().topics().create(name="projects/another/topics/x", body={})
    assert refused(request) == (403, "forbidden")
