from __future__ import annotations

import random
from typing import Any

from tests.contract.emulators.microsoft.conftest import Organisation


def one_round(org: Organisation, url: str, *prefer: str) -> tuple[list[dict[str, Any]], str]:
    """All values of a round and its deltaLink."""
    values: list[dict[str, Any]] = []
    while True:
        answer = org.call("GET", url, 'IdType="ImmutableId"', *prefer)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        values += page["value"]
        if "@odata.deltaLink" in page:
            return values, page["@odata.deltaLink"]
        url = page["@odata.nextLink"]


def start(org: Organisation, folder: str = "inbox") -> str:
    return f"/users/{org.ada.id}/mailFolders/{folder}/messages/delta?$select=subject"


def test_the_first_round_gives_everything_and_the_next_only_what_changed(org: Organisation) -> None:
    given = [org.deliver(f"Number {index}") for index in range(7)]
    values, link = one_round(org, start(org), "odata.maxpagesize=3")
    assert sorted(value["id"] for value in values) == sorted(given)
    assert one_round(org, link)[0] == []
    new = org.deliver("New")
    org.call("PATCH", org.path(given[0]), json={"isRead": True})
    values, _ = one_round(org, link)
    assert {value["id"] for value in values} == {new, given[0]}


def test_removed_and_moved_messages_are_marked_in_the_folder_they_left(org: Organisation) -> None:
    first, second, third = org.deliver("a"), org.deliver("b"), org.deliver("c")
    _, inbox = one_round(org, start(org))
    _, junk = one_round(org, start(org, "junkemail"))
    org.call("POST", f"{org.path(first)}/permanentDelete")
    org.call("POST", f"{org.path(second)}/move", json={"destinationId": "junkemail"})
    values, _ = one_round(org, inbox)
    assert {value["id"]: value.get("@removed") for value in values} == {
        first: {"reason": "deleted"},
        second: {"reason": "deleted"},
    }
    assert [value["id"] for value in one_round(org, junk)[0]] == [second]
    assert org.call("GET", org.path(third)).status_code == 200


def test_changes_between_two_pages_of_a_round_are_not_lost(org: Organisation) -> None:
    given = [org.deliver(f"Number {index}") for index in range(4)]
    page = org.call("GET", start(org), 'IdType="ImmutableId"', "odata.maxpagesize=2").json()
    seen = [value["id"] for value in page["value"]]
    late = org.deliver("late")
    org.call("PATCH", org.path(given[3]), json={"isRead": True})
    values, link = one_round(org, page["@odata.nextLink"])
    following, _ = one_round(org, link)
    assert set(seen) | {value["id"] for value in [*values, *following]} == {*given, late}


def test_only_created_messages_where_that_is_asked_for(org: Organisation) -> None:
    old = org.deliver("old")
    _, link = one_round(org, f"{start(org)}&changeType=created")
    org.call("PATCH", org.path(old), json={"isRead": True})
    new = org.deliver("new")
    assert [value["id"] for value in one_round(org, link)[0]] == [new]


def test_a_round_can_be_bounded_by_the_time_of_receipt(org: Organisation) -> None:
    org.deliver("old")
    org.emulators.world.clock.advance(7200)
    since = org.emulators.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    new = org.deliver("new")
    values, link = one_round(org, f"{start(org)}&$filter=receivedDateTime ge {since}")
    assert [value["id"] for value in values] == [new]
    newer = org.deliver("newer")
    assert [value["id"] for value in one_round(org, link)[0]] == [newer]
    refused = org.call("GET", f"{start(org)}&$filter=isRead eq false")
    assert refused.status_code == 400


def test_an_expired_token_is_gone_and_says_where_to_start(org: Organisation) -> None:
    given = org.deliver()
    _, link = one_round(org, start(org))
    org.emulators.world.microsoft.expire_delta_tokens(org.ada.id)
    gone = org.call("GET", link)
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "SyncStateNotFound")
    values, _ = one_round(org, gone.headers["location"])
    assert [value["id"] for value in values] == [given]


def test_a_token_that_was_tampered_with_is_refused(org: Organisation) -> None:
    _, link = one_round(org, start(org))
    assert org.call("GET", f"{link[:-8]}!!!!").status_code == 400
    other = link.replace("/inbox/", "/junkemail/")
    assert org.call("GET", other).status_code == 400


def test_there_is_no_delta_over_a_whole_mailbox(org: Organisation) -> None:
    answer = org.call("GET", f"/users/{org.ada.id}/messages/delta")
    assert answer.status_code == 400
    assert "not supported" in answer.json()["error"]["message"]


def test_a_replica_kept_by_delta_equals_the_folder_whatever_happens_between_pages(org: Organisation) -> None:
    chance = random.Random(20261121)
    state = org.emulators.world.microsoft
    replica: dict[str, str] = {}
    url, ended = start(org), False
    known: list[str] = []

    def something_happens() -> None:
        alive = [each for each in known if each in state.messages]
        match chance.choice(["deliver", "deliver", "read", "move", "back", "purge"]):
            case "deliver":
                known.append(org.deliver(f"Number {len(known)}"))
            case "read" if alive:
                message = state.messages[chance.choice(alive)]
                message.subject = f"{message.subject}!"
                state.changed(message)
            case "move" if alive:
                state.move(state.messages[chance.choice(alive)], state.folder(org.ada.id, "junkemail"))
            case "back" if alive:
                state.move(state.messages[chance.choice(alive)], state.folder(org.ada.id, "inbox"))
            case "purge" if alive:
                state.remove(state.messages[chance.choice(alive)])

    def apply_page() -> bool:
        nonlocal url
        page = org.call("GET", url, 'IdType="ImmutableId"', "odata.maxpagesize=3").json()
        for value in page["value"]:
            if "@removed" in value:
                replica.pop(value["id"], None)
            else:
                replica[value["id"]] = value["subject"]
        url = page.get("@odata.nextLink") or page["@odata.deltaLink"]
        return "@odata.deltaLink" in page

    for _ in range(120):
        for _ in range(chance.randrange(4)):
            something_happens()
        ended = apply_page()
    while not ended:
        ended = apply_page()
    # One more whole round without anything happening: whatever was still open is settled.
    while not apply_page():
        pass
    inbox = state.folder(org.ada.id, "inbox")
    assert replica == {message.id: message.subject for message in state.messages_of(org.ada.id, inbox.id)}
    assert len(replica) > 5
