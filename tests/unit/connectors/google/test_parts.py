"""Settings, pacing, dates and requests as they are built."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from connectors.base.errors import Throttled, Unavailable
from connectors.base.types import Mailbox
from connectors.google import checks, quotas, sdk
from connectors.google.config import SCOPE_FULL, SCOPE_MODIFY, SCOPE_USERS, GoogleConfig, KeyFile, Keyless
from connectors.google.directory import read_user
from connectors.google.quotas import Pacer
from connectors.google.replace import date_source

ACCOUNT = Keyless("postern@project.iam.gserviceaccount.com", "1234567890")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def config(**changes: str) -> GoogleConfig:
    return GoogleConfig(ACCOUNT, **changes)  # type: ignore[arg-type]  # only strings are changed here


def test_the_narrowest_scopes_are_asked_for() -> None:
    assert config().scopes == (SCOPE_MODIFY, SCOPE_USERS)
    assert config(removal="delete").scopes == (SCOPE_FULL, SCOPE_USERS)


def test_an_unknown_way_of_removing_is_refused() -> None:
    with pytest.raises(ValueError, match="removal"):
        config(removal="shred")


@pytest.mark.parametrize("name", ["gmail", "projects/p/topics/", "projects/p/topic/gmail", "topics/gmail"])
def test_a_misspelt_pubsub_name_is_refused_at_the_start(name: str) -> None:
    for setting in ("pubsub_topic", "pubsub_subscription"):
        with pytest.raises(ValueError, match=setting):
            config(**{setting: name})


def test_no_secret_shows_when_settings_are_printed() -> None:
    key = KeyFile({"client_email": "a@b", "client_id": "1", "private_key": "SECRET-KEY"})
    shown = repr(GoogleConfig(key, oidc_client_id="client", oidc_client_secret="SECRET-OIDC"))
    assert "SECRET" not in shown


def test_a_key_file_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="private_key"):
        KeyFile({"client_email": "a@b", "client_id": "1"})


def test_the_admin_console_page_comes_filled_in() -> None:
    url = checks.delegation_url(config())
    assert url.startswith("https://admin.google.com/ac/owl/domainwidedelegation?clientScopeToAdd=https://www.")
    assert "clientIdToAdd=1234567890" in url


def test_a_user_resource_becomes_a_mailbox() -> None:
    user = {
        "id": "117",
        "primaryEmail": "Anna@Example.org",
        "name": {"fullName": "Anna S"},
        "aliases": ["A@example.org"],
        "nonEditableAliases": ["anna@example.org.test-google-a.com"],
    }
    assert read_user(user) == Mailbox(
        "117", "anna@example.org", "Anna S", ("a@example.org", "anna@example.org.test-google-a.com"), True
    )
    for state in ({"suspended": True}, {"archived": True}, {"isMailboxSetup": False}):
        assert not read_user(user | state).enabled


def dated(when: datetime) -> bytes:
    return f"Date: {when:%a, %d %b %Y %H:%M:%S} +0000\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("header", "received", "expected"),
    [
        (NOW - timedelta(minutes=2), NOW - timedelta(seconds=3), "dateHeader"),
        (NOW - timedelta(hours=5), NOW - timedelta(seconds=3), "receivedTime"),
        (NOW + timedelta(days=300), NOW - timedelta(seconds=3), "receivedTime"),
        (NOW - timedelta(days=30, hours=1), NOW - timedelta(days=30), "dateHeader"),
    ],
)
def test_a_copy_stands_where_its_original_stood(header: datetime, received: datetime, expected: str) -> None:
    assert date_source(dated(header), received, NOW) == expected


def test_a_message_without_a_date_is_dated_by_its_arrival() -> None:
    assert date_source(b"Subject: x\r\n\r\n", NOW, NOW) == "receivedTime"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.spent: list[tuple[float, int]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_no_minute_holds_more_units_than_a_mailbox_may_use() -> None:
    clock = Clock()
    pacer = Pacer(6_000, clock=clock, sleep=clock.sleep)

    async def many() -> None:
        for _ in range(600):
            await pacer.spend("anna", "gmail.users.messages.get")
            clock.spent.append((clock.now, quotas.UNITS["gmail.users.messages.get"]))

    asyncio.run(many())
    for start, _ in clock.spent:
        assert sum(units for at, units in clock.spent if start <= at < start + 60) <= 6_000


def test_one_mailbox_at_its_limit_does_not_hold_up_another() -> None:
    clock = Clock()
    pacer = Pacer(600, clock=clock, sleep=clock.sleep, longest_wait=5)

    async def run() -> None:
        with pytest.raises(Throttled) as raised:
            for _ in range(100):
                await pacer.spend("anna", "gmail.users.watch")
        assert raised.value.retry_after > 5
        before = clock.now
        await pacer.spend("bob", "gmail.users.watch")
        assert clock.now == before

    asyncio.run(run())


def test_a_replacement_costs_what_the_documentation_says() -> None:
    assert quotas.REPLACEMENT_UNITS == 92


def test_an_upload_carries_the_message_byte_for_byte_to_the_configured_endpoint() -> None:
    base = "http://127.0.0.1:9/google/"
    raw = b"From nobody\r\nX: \xff\xfe\r\n\r\n\x00--x\r\n bare\rcr\nlf"
    body = {"labelIds": ["INBOX"], "threadId": "t"}
    request = sdk.gmail(base).messages.insert(userId="a@b.c", body=body, internalDateSource="dateHeader")
    request = sdk.with_media(request, base, raw)
    assert request.uri.startswith("http://127.0.0.1:9/google/upload/gmail/v1/users/a%40b.c/messages?")
    assert "uploadType=multipart" in request.uri
    assert "internalDateSource=dateHeader" in request.uri
    boundary = request.headers["content-type"].split('"')[1].encode()
    _, metadata, media, end = request.body.split(b"--" + boundary)
    assert json.loads(metadata.partition(b"\r\n\r\n")[2]) == body
    assert media.partition(b"\r\n\r\n")[2] == raw + b"\r\n"
    assert end == b"--\r\n"


@pytest.mark.parametrize("place", ["", "https://evil.example/upload/", "http://127.0.0.1:9/google-evil/upload/x"])
def test_a_message_is_uploaded_to_the_configured_endpoint_only(place: str) -> None:
    request = sdk.gmail("http://127.0.0.1:9/google/").messages.insert(userId="a@b.c", body={})
    with pytest.raises(Unavailable, match="not sent"):
        sdk.session_upload(request, "http://127.0.0.1:9/google/", place, b"secret")


def test_reading_notifications_loads_no_google_library() -> None:
    code = (
        "import sys, connectors.google.notifications, connectors.google.config\n"
        "print([name for name in sys.modules if name.startswith(('googleapiclient', 'google.', 'httplib2'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
