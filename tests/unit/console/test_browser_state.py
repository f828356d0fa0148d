"""What is handed to browsers: sealed flows, tokens of forms, paths to go on to."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from app.console.browser import csrf_matches, csrf_token, new_flow, open_flow, safe_next, seal_flow
from app.kit.crypto import KeyRing
from connectors.base.types import Provider

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
KEYS = KeyRing({1: bytes(range(32))})


def test_a_flow_comes_back_as_it_was_sealed() -> None:
    flow = new_flow("signin", Provider.GOOGLE, NOW, following="/clicks")
    assert open_flow(KEYS, "signin", seal_flow(KEYS, flow), NOW) == flow


def test_nothing_of_a_flow_can_be_read_in_the_browser() -> None:
    flow = new_flow("signin", Provider.GOOGLE, NOW)
    sealed = seal_flow(KEYS, flow)
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for secret in (flow.state, flow.nonce, flow.verifier):
        assert secret.encode() not in raw
        assert secret not in sealed


def test_a_flow_with_any_byte_changed_does_not_open() -> None:
    sealed = seal_flow(KEYS, new_flow("signin", Provider.GOOGLE, NOW))
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    for at in range(len(raw)):
        raw[at] ^= 1
        assert open_flow(KEYS, "signin", base64.urlsafe_b64encode(raw).decode(), NOW) is None
        raw[at] ^= 1


def test_a_sign_in_flow_does_not_open_as_a_consent_flow() -> None:
    sealed = seal_flow(KEYS, new_flow("signin", Provider.MICROSOFT, NOW))
    assert open_flow(KEYS, "consent", sealed, NOW) is None


@pytest.mark.parametrize("value", ["", "x", "é", "====", "A" * 5000, "bm90IGEgZmxvdw"])
def test_nonsense_is_no_flow(value: str) -> None:
    assert open_flow(KEYS, "signin", value, NOW) is None


def test_a_flow_lives_ten_minutes() -> None:
    sealed = seal_flow(KEYS, new_flow("signin", Provider.MICROSOFT, NOW))
    assert open_flow(KEYS, "signin", sealed, NOW + timedelta(minutes=9, seconds=59))
    assert open_flow(KEYS, "signin", sealed, NOW + timedelta(minutes=10)) is None


def test_flows_share_nothing() -> None:
    one, two = (new_flow("signin", Provider.MICROSOFT, NOW) for _ in range(2))
    assert not {one.state, one.nonce, one.verifier} & {two.state, two.nonce, two.verifier}


def test_the_code_challenge_is_the_hash_of_the_verifier() -> None:
    # The example of RFC 7636, appendix B.
    flow = new_flow("signin", Provider.MICROSOFT, NOW)
    example = type(flow)("signin", "microsoft", "s", 0, verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert example.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_form_token_fits_its_session_alone() -> None:
    token = csrf_token(KEYS, b"a" * 32)
    assert csrf_matches(KEYS, b"a" * 32, token)
    assert not csrf_matches(KEYS, b"b" * 32, token)
    assert not csrf_matches(KEYS, b"a" * 32, "")
    assert not csrf_matches(KEYS, b"a" * 32, "é")


@pytest.mark.parametrize("path", ["/", "/clicks", "/messages?q=a&open=3", "/x//y"])
def test_paths_of_the_console_are_gone_on_to(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "clicks",
        "//evil.example",
        "/\\evil.example",
        "/x\\y",
        "https://evil.example",
        "/a\nb",
        "/a\u202eb",
        "/" * 600,
    ],
)
def test_anything_else_is_not(path: str) -> None:
    assert safe_next(path) == ""
