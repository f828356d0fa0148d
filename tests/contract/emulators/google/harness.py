"""The emulated Google over real HTTP, and Google's own clients pointed at it."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import google_auth_httplib2
import httplib2
import pytest
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from connectors.emulators.google.state import GoogleState

DOMAIN = "kasuga.example"
CUSTOMER = "C03kasuga"
ADMIN = "hana.sato@kasuga.example"
USER = "kenji.mori@kasuga.example"
PROJECT = "postern-test"
TOPIC = f"projects/{PROJECT}/topics/gmail"
MODIFY = "https://www.googleapis.com/auth/gmail.modify"
FULL = "https://mail.google.com/"
DIRECTORY = "https://www.googleapis.com/auth/admin.directory.user.readonly"
GROUPS = "https://www.googleapis.com/auth/admin.directory.group.readonly"
PUBSUB = "https://www.googleapis.com/auth/pubsub"
DRIVE = "https://www.googleapis.com/auth/drive.file"
IAM = "https://www.googleapis.com/auth/iam"
DIRECTORY_SCOPES = (
    DIRECTORY,
    GROUPS,
    "https://www.googleapis.com/auth/admin.directory.customer.readonly",
    "https://www.googleapis.com/auth/admin.directory.domain.readonly",
)
ALL_SCOPES = (
    MODIFY,
    FULL,
    DRIVE,
    "https://www.googleapis.com/auth/gmail.metadata",
    *DIRECTORY_SCOPES,
)


def mail(
    subject: str = "Quarterly figures",
    message_id: str = "<m1@sender.example>",
    body: str = "See https://intranet.sender.example/q3 please.",
    extra: str = "",
) -> bytes:
    """A small message with CRLF line ends."""
    return (
        f"From: Aiko Tanaka <aiko@sender.example>\r\nTo: {USER}\r\nSubject: {subject}\r\n"
        f"Message-ID: {message_id}\r\nDate: Sat, 21 Nov 2026 09:15:00 +0900\r\n{extra}"
        f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n"
    ).encode()


@dataclass
class Workspace:
    """A running emulator with one domain, and clients for it."""

    state: GoogleState
    base: str
    key: dict[str, str]
    _services: dict[tuple[str, str | None, tuple[str, ...]], Any] = field(default_factory=dict)

    def credentials(self, subject: str | None, *scopes: str) -> service_account.Credentials:
        """Credentials of the service account, on behalf of a user or as itself."""
        made = service_account.Credentials.from_service_account_info(self.key, scopes=list(scopes))
        return made.with_subject(subject) if subject else made

    def service(self, name: str, version: str, endpoint: str, subject: str | None, *scopes: str) -> Any:
        """A client made from the library's bundled discovery document."""
        known = (name, subject, scopes)
        if known not in self._services:
            plain = httplib2.Http(timeout=20)
            # As googleapiclient.http.build_http does: 308 means "go on" in a resumable upload.
            plain.redirect_codes = plain.redirect_codes - {308}
            http = google_auth_httplib2.AuthorizedHttp(self.credentials(subject, *scopes), http=plain)
            self._services[known] = build(
                name,
                version,
                http=http,
                static_discovery=True,
                cache_discovery=False,
                client_options={"api_endpoint": endpoint},
            )
        return self._services[known]

    def gmail(self, subject: str = USER, *scopes: str) -> Any:
        """``users()`` of the Gmail API."""
        return self.service("gmail", "v1", self.base, subject, *(scopes or (FULL, MODIFY))).users()

    def directory(self, subject: str = ADMIN) -> Any:
        """The Directory API."""
        return self.service("admin", "directory_v1", self.base, subject, *DIRECTORY_SCOPES)

    def drive(self, subject: str = ADMIN) -> Any:
        """The Drive API."""
        return self.service("drive", "v3", f"{self.base}/drive/v3", subject, DRIVE)

    def pubsub(self) -> Any:
        """``projects()`` of the Pub/Sub API."""
        return self.service("pubsub", "v1", f"{self.base}/pubsub", None, PUBSUB).projects()

    def close(self) -> None:
        """Close the clients' connections."""
        for service in self._services.values():
            service.close()

    def upload(self, request: Any) -> Any:
        """Run an upload: the library makes its address with https and without the endpoint's path."""
        request.uri = re.sub(r"\Ahttps://[^/]+", self.base, request.uri)
        return request.execute()


def refused(request: Any) -> tuple[int, str]:
    """Status and reason of a call that has to be refused."""
    with pytest.raises(HttpError) as caught:
        request.execute()
    return caught.value.status_code, json.loads(caught.value.content)["error"]["errors"][0]["reason"]


def b64(data: bytes) -> str:
    """As ``Message.raw`` wants it."""
    return base64.urlsafe_b64encode(data).decode()


@dataclass
class Inbox:
    """A push endpoint that records requests and answers what it is told to."""

    url: str
    requests: list[tuple[Mapping[str, str], dict[str, Any]]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def wait(self, count: int, seconds: float = 60.0) -> list[tuple[Mapping[str, str], dict[str, Any]]]:
        """The first requests, once there are that many."""
        until(lambda: len(self.requests) >= count, seconds)
        return self.requests[:count]


def until(ready: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that happens in another thread."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            pytest.fail("it did not happen in time")
        time.sleep(0.01)
