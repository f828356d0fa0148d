"""The consent page: what it is asked, and what its answer is worth."""

from __future__ import annotations

import pytest

from connectors.microsoft.config import ClientSecret, MicrosoftConfig
from connectors.microsoft.identity import MicrosoftIdentity

CONFIG = MicrosoftConfig("app", ClientSecret("x"))
TENANT = "84bd8158-6d4d-4958-8b9f-9d6445542f95"
REDIRECT = "https://postern.example/consent"


def test_consent_names_the_organisation_and_asks_for_what_is_registered() -> None:
    asked = MicrosoftIdentity(CONFIG).consent(TENANT.upper(), REDIRECT, "state&1")

    assert asked.url == (
        f"https://login.microsoftonline.com/{TENANT}/v2.0/adminconsent?client_id=app"
        "&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
        "&redirect_uri=https%3A%2F%2Fpostern.example%2Fconsent&state=state%261"
    )
    assert asked.scopes == ("Mail-Advanced.ReadWrite.All", "Mail.ReadWrite", "User.Read.All")


def test_an_error_is_looked_at_before_admin_consent() -> None:
    identity = MicrosoftIdentity(CONFIG)
    answer = identity.read_consent(
        {
            "admin_consent": "True",
            "tenant": TENANT,
            "error": "access_denied",
            "error_description": "AADSTS65004: declined\r\n\x1b[31mTrace",
        }
    )

    assert not answer.granted
    assert answer.error.startswith("access_denied: AADSTS65004: declined")
    assert answer.error.isprintable()


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"admin_consent": "False", "tenant": "84bd8158-6d4d-4958-8b9f-9d6445542f95"},
        {"admin_consent": "True"},
        {"admin_consent": "True", "tenant": "../x"},
        {"error": "", "admin_consent": "True", "tenant": "84bd8158-6d4d-4958-8b9f-9d6445542f95"},
        {"error": "x" * 10_000},
    ],
)
def test_an_answer_that_grants_nothing_says_why(query: dict[str, str]) -> None:
    answer = MicrosoftIdentity(CONFIG).read_consent(query)

    assert not answer.granted
    assert 0 < len(answer.error) <= 300


@pytest.mark.parametrize("tenant", ["", "common", "organizations", "9188040d-6c67-4c5b-b112-36a304b66dad", "a/../b"])
def test_consent_is_asked_of_one_organisation_only(tenant: str) -> None:
    identity = MicrosoftIdentity(CONFIG)

    with pytest.raises(ValueError):
        identity.consent(tenant, REDIRECT, "state")
