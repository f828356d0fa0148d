"""Settings are refused where they would send a secret in clear, and never show one."""

from __future__ import annotations

import pytest

from connectors.microsoft.config import ClientCertificate, ClientSecret, FederatedTokenFile, MicrosoftConfig


@pytest.mark.parametrize(
    "changes",
    [
        {"authority": "http://login.example.com"},
        {"graph_url": "http://10.0.0.1/v1.0"},
        {"graph_url": "https://user:secret@graph.example/v1.0"},
        {"graph_url": "graph.microsoft.com"},
        {"admin_center_url": "ftp://entra.example"},
        {"client_id": ""},
    ],
)
def test_an_unsafe_address_is_refused(changes: dict[str, str]) -> None:
    values = {"client_id": "app", **changes}
    with pytest.raises(ValueError):
        MicrosoftConfig(credential=ClientSecret("x"), **values)


def test_loopback_may_use_http_and_still_asks_for_graph() -> None:
    config = MicrosoftConfig("app", FederatedTokenFile("/x"), graph_url="http://127.0.0.1:9/v1.0/")

    assert (config.graph_url, config.graph_scope) == (
        "http://127.0.0.1:9/v1.0",
        "https://graph.microsoft.com/.default",
    )


def test_a_national_cloud_is_asked_for_its_own_scope() -> None:
    config = MicrosoftConfig("app", ClientSecret("x"), graph_url="https://graph.microsoft.us/v1.0")

    assert config.graph_scope == "https://graph.microsoft.us/.default"


def test_no_secret_shows_in_a_representation() -> None:
    secret = MicrosoftConfig("app", ClientSecret("hush"))
    certificate = MicrosoftConfig("app", ClientCertificate(pem=b"hush", password="hush"))

    assert "hush" not in repr(secret) + repr(secret.credential) + repr(certificate.credential)


@pytest.mark.parametrize("arguments", [{}, {"path": "a", "pem": b"b"}])
def test_a_certificate_is_given_in_exactly_one_way(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ClientCertificate(**arguments)  # type: ignore[arg-type]  # wrong on purpose
