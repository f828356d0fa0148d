from __future__ import annotations

from pathlib import Path

import httpx

from connectors.emulators.demo.delivery import DemoMail
from connectors.emulators.demo.feed import feed_lines
from connectors.emulators.demo.google_setup import set_up_google
from connectors.emulators.demo.organisations import KASUGA, NORDWIND, seed
from connectors.emulators.microsoft.view import MicrosoftView
from connectors.emulators.testing import running_emulators
from connectors.emulators.world import Options, World


def test_a_second_start_goes_on_with_mail_changes_tokens_and_subscriptions(
    tmp_path: Path, client: httpx.Client
) -> None:
    with running_emulators(state_dir=tmp_path) as first:
        tenant, (ada,) = first.microsoft_tenant("ada")
        kept = first.world.deliver("microsoft", ada.address, b"Subject: kept\r\n\r\nbody \xff")
        gone = first.world.deliver("microsoft", ada.address, b"Subject: gone\r\n\r\nx")
        token = first.app_token(tenant)
        headers = {"Authorization": f"Bearer {token}", "Prefer": 'IdType="ImmutableId"'}
        delta = f"/users/{ada.id}/mailFolders/inbox/messages/delta"
        link = client.get(f"{first.graph_url}{delta}", headers=headers).json()["@odata.deltaLink"]
        client.patch(f"{first.graph_url}/users/{ada.id}/messages/{kept}", headers=headers, json={"isRead": True})
        client.post(f"{first.graph_url}/users/{ada.id}/messages/{gone}/permanentDelete", headers=headers)
        secret, raw = first.client_secret, first.world.microsoft.messages[kept].raw
        first.world.clock.advance(100)
    with running_emulators(state_dir=tmp_path) as second:
        assert second.client_secret == secret
        assert second.world.clock.offset.total_seconds() == 100
        message = second.world.microsoft.message(ada.id, kept)
        assert (message.is_read, message.raw) == (True, raw)
        link = link.replace(first.base_url, second.base_url)
        changes = client.get(link, headers=headers).json()["value"]
        assert {change["id"]: "@removed" in change for change in changes} == {kept: False, gone: True}


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    world = World(Options(state_dir=tmp_path))
    try:
        seed(world)
        DemoMail(world, 8090, seed=1).deliver_some()
        world.flush()
        message = next(iter(world.microsoft.messages.values()))
        MicrosoftView(world.microsoft).mark_read(world.microsoft.people[message.user_id].address, message.id)
        from connectors.emulators.microsoft import keeping

        assert keeping.flush(world.microsoft) == 2  # the message, and its mailbox's counter
    finally:
        world.close()


def test_the_demo_has_forty_letters_for_ten_mailboxes_on_both_providers(tmp_path: Path) -> None:
    world = World(Options(state_dir=tmp_path))
    try:
        world.set_base("http://127.0.0.1:8090")
        seed(world)
        assert DemoMail(world, 8090, seed=1).deliver_some() == 40
        setup = set_up_google(world, ["http://127.0.0.1:8080/callback"], "http://127.0.0.1:8080/hooks/google")
    finally:
        world.close()
    again = World(Options(state_dir=tmp_path))
    try:
        again.set_base("http://127.0.0.1:8091")
        assert not again.is_new
        for recipient in NORDWIND:
            assert len(again.microsoft.messages_of(again.microsoft.person(recipient.address).id)) == 4
        for recipient in KASUGA:
            assert len(again.google.messages(recipient.address)) == 4
        assert again.google.title == "Kasuga Books (Google Workspace)"
        later = set_up_google(again, ["http://127.0.0.1:8080/callback"], "http://127.0.0.1:8080/hooks/google")
        assert later.client_id == setup.client_id
        assert later.service_account["private_key"] == setup.service_account["private_key"]
        assert later.service_account["token_uri"] == "http://127.0.0.1:8091/google/token"
    finally:
        again.close()


def test_mail_stops_when_every_mailbox_is_full() -> None:
    world = World()
    try:
        seed(world)
        mail = DemoMail(world, 8090, cap=1, seed=1)
        delivered = 0
        while mail.deliver_another():
            delivered += 1
        assert delivered == 10
    finally:
        world.close()


def test_the_link_that_turns_bad_is_added_to_the_feed_file(tmp_path: Path, client: httpx.Client) -> None:
    feed = tmp_path / "feed.tsv"
    with running_emulators(feed_file=feed) as running:
        host = {"Host": f"files.nordhafen-dokumente.localhost:{running.base_url.rpartition(':')[2]}"}
        assert "demo-page" in client.get(f"{running.base_url}/d/1", headers=host).text
        assert client.post(f"{running.base_url}/control/turn-bad", json={}).status_code == 200
        assert "demo-login" in client.get(f"{running.base_url}/d/1", headers=host).text
    assert feed.read_text().splitlines() == feed_lines(turned=True)
    assert "malicious\tfiles.nordhafen-dokumente.localhost" in feed_lines(turned=True)
    assert not any("nordhafen" in line for line in feed_lines())
