"""What Microsoft says is told apart: revoked, our own fault, transient, and all the rest."""

from __future__ import annotations

import json

import pytest

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    CursorExpired,
    MailboxUnavailable,
    MessageGone,
    MisconfiguredClient,
    PermissionMissing,
    TooLarge,
    Unavailable,
    VersionConflict,
)
from connectors.microsoft.errors import GraphFault, entra_codes, graph_error, read_fault, token_error

TENANT = "84bd8158-6d4d-4958-8b9f-9d6445542f95"


def entra_body(code: int, error: str = "invalid_client") -> str:
    """An error of the token endpoint as documented."""
    return json.dumps(
        {
            "error": error,
            "error_description": f"AADSTS{code}: Something.\r\nTrace ID: 1\r\nTimestamp: 2026-11-21 10:00:00Z",
            "error_codes": [code],
            "timestamp": "2026-11-21 10:00:00Z",
        }
    )


@pytest.mark.parametrize("code", [7000229, 700016, 7000112, 65001, 500011, 90002])
def test_a_withdrawn_grant_is_revoked(code: int) -> None:
    error = token_error(entra_body(code), TENANT)

    assert isinstance(error, AccessRevoked)
    assert f"AADSTS{code}" in str(error)


@pytest.mark.parametrize("code", [7000215, 7000222, 700027, 700024, 70021, 700213])
def test_a_bad_credential_is_our_own_fault(code: int) -> None:
    assert isinstance(token_error(entra_body(code), TENANT), MisconfiguredClient)


@pytest.mark.parametrize("text", [entra_body(90033), entra_body(50196), "<html>busy</html>", "", "{}"])
def test_what_is_not_known_is_never_proof_of_a_revoked_grant(text: str) -> None:
    assert isinstance(token_error(text, TENANT), Unavailable)


def test_our_own_fault_wins_where_both_are_named() -> None:
    text = json.dumps({"error_codes": [7000215, 700016]})

    assert isinstance(token_error(text, TENANT), MisconfiguredClient)


def test_codes_are_found_in_the_sdks_message_too() -> None:
    message = "Microsoft Entra ID error '(invalid_client) AADSTS7000215: Invalid client secret provided.'"

    assert entra_codes(message) == [7000215]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (GraphFault(410, "SyncStateNotFound"), CursorExpired),
        (GraphFault(400, "SyncStateNotFound"), CursorExpired),
        (GraphFault(412, "ErrorIrresolvableConflict"), VersionConflict),
        (GraphFault(409, "ErrorIrresolvableConflict"), VersionConflict),
        (GraphFault(404, "MailboxNotEnabledForRESTAPI"), MailboxUnavailable),
        (GraphFault(404, "Request_ResourceNotFound"), MailboxUnavailable),
        (GraphFault(413), TooLarge),
        (GraphFault(403, "ErrorAccessDenied"), PermissionMissing),
        (GraphFault(401, "InvalidAuthenticationToken"), AccessRevoked),
        (GraphFault(500), Unavailable),
        (GraphFault(423, "ErrorItemLocked"), Unavailable),
    ],
)
def test_a_refusal_of_graph_has_its_own_error(fault: GraphFault, kind: type[ConnectorError]) -> None:
    assert type(graph_error(fault, "testing")) is kind


def test_404_means_gone_only_for_a_message() -> None:
    fault = GraphFault(404, "ErrorItemNotFound")

    assert isinstance(graph_error(fault, "reading", about_message=True), MessageGone)
    assert isinstance(graph_error(fault, "reading"), MailboxUnavailable)


def test_403_is_read_in_the_light_of_the_tokens_roles() -> None:
    fault = GraphFault(403, "ErrorAccessDenied")

    assert isinstance(graph_error(fault, "reading", roles=frozenset()), AccessRevoked)
    assert isinstance(graph_error(fault, "reading", roles={"User.Read.All"}), PermissionMissing)
    assert isinstance(graph_error(fault, "reading", roles={"Mail.ReadWrite"}), MailboxUnavailable)


def test_an_error_body_is_read_with_its_inner_code() -> None:
    body = b'{"error":{"code":"BadRequest","message":"m","innerError":{"code":"SyncStateNotFound"}}}'

    fault = read_fault(400, body)

    assert (fault.code, fault.inner) == ("BadRequest", "SyncStateNotFound")
    assert fault.has("syncstatenotfound")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"x"}', b'{"error":{"code":5}}', b"\xff"])
def test_an_error_body_of_another_shape_gives_no_code(body: bytes) -> None:
    assert read_fault(502, body) == GraphFault(502)


def test_a_code_cannot_smuggle_control_characters_into_a_log() -> None:
    assert read_fault(400, b'{"error":{"code":"Bad\\n\\u001b[31mRequest"}}').code == "Bad31mRequest"
