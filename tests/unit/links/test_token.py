"""Link tokens: the same link gives the same URL, and nothing but an unchanged link opens."""

from __future__ import annotations

import secrets
import string

import ada_url
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.crypto import KeyRing
from app.links import LinkBroken, LinkOpener, Minter, PayloadNeeded, message_opener, visible_host
from app.links.token import KINDS, MAX_LINK_CHARACTERS
from app.messages.types import LinkKind

GATEWAY = "https://gw.example"
RING = KeyRing({1: bytes(range(32))})
OPENER = LinkOpener(RING, GATEWAY, "l")


def minter(ring: KeyRing = RING, **numbers: int) -> Minter:
    return Minter(ring, GATEWAY, "l", **({"tenant_no": 7, "mailbox_no": 300, "message_no": 70_000} | numbers))


@given(st.text(max_size=300), st.binary(max_size=300))
def test_what_was_sealed_is_opened_unchanged(url: str, source: bytes) -> None:
    token = OPENER.open(minter().mint(url, source, "anchor"))
    assert (token.url, token.source, token.kind) == (url, source, "anchor")
    assert (token.tenant_no, token.mailbox_no, token.message_no) == (7, 300, 70_000)


def test_the_same_link_in_the_same_message_gives_the_same_address() -> None:
    first = minter().mint("https://a.example/?x=1&y=2", b"https://a.example/?x=1&amp;y=2", "anchor")
    assert first == minter().mint("https://a.example/?x=1&y=2", b"https://a.example/?x=1&amp;y=2", "anchor")
    assert first != minter(message_no=70_001).mint(
        "https://a.example/?x=1&y=2", b"https://a.example/?x=1&amp;y=2", "anchor"
    )


def test_a_target_that_is_only_escaped_is_carried_once() -> None:
    url, source = "https://a.example/?" + "a=b&" * 60, b"https://a.example/?" + b"a=b&amp;" * 60
    assert len(minter().mint(url, source, "anchor")) < len(minter().mint(url + "#", source, "anchor"))


@given(st.data())
def test_no_changed_byte_of_host_or_token_opens(data: st.DataObject) -> None:
    link = minter().mint("https://www.a.example/path", b"https://www.a.example/path", "anchor")
    start = len(GATEWAY) + 3
    at = data.draw(st.integers(start, len(link) - 1))
    other = data.draw(st.sampled_from([c for c in string.ascii_lowercase + "-_09." if c != link[at].lower()]))
    with pytest.raises(LinkBroken):
        OPENER.open(link[:at] + other + link[at + 1 :])


@given(st.integers(1, 60))
def test_a_truncated_link_does_not_open(cut: int) -> None:
    with pytest.raises(LinkBroken):
        OPENER.open(minter().mint("https://a.example/", b"https://a.example/", "anchor")[:-cut])


@given(st.text(max_size=200))
def test_any_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(LinkBroken):
        OPENER.open_parts("a.example", text)


def test_a_token_under_another_visible_host_does_not_open() -> None:
    link = minter().mint("https://evil.example/", b"https://evil.example/", "anchor")
    with pytest.raises(LinkBroken, match="tampered"):
        OPENER.open(link.replace("/evil.example/", "/good.example/"))


def test_old_keys_keep_opening_and_retired_ones_are_named() -> None:
    old = minter().mint("https://a.example/", b"https://a.example/", "anchor")
    rotated = KeyRing({2: secrets.token_bytes(32), 1: bytes(range(32))})
    assert LinkOpener(rotated, GATEWAY, "l").open(old).key_id == 1
    assert LinkOpener(rotated, GATEWAY, "l").open(minter(rotated).mint("https://a.example/", b"", "anchor")).key_id == 2
    with pytest.raises(LinkBroken, match="key"):
        LinkOpener(KeyRing({2: secrets.token_bytes(32)}), GATEWAY, "l").open(old)


def test_a_long_target_is_stored_and_still_opens() -> None:
    made = minter()
    store = Minter(RING, GATEWAY, "l", tenant_no=7, store_long=True)
    url = "https://a.example/?" + secrets.token_urlsafe(4000)
    assert len(made.mint(url, url.encode(), "anchor")) > MAX_LINK_CHARACTERS
    link = store.mint(url, url.encode(), "anchor")
    assert len(link) <= MAX_LINK_CHARACTERS
    with pytest.raises(PayloadNeeded):
        OPENER.open(link)
    opener = LinkOpener(RING, GATEWAY, "l", payloads=lambda tenant, digest: store.payloads.get(digest))
    assert opener.open(link).url == url
    with pytest.raises(LinkBroken, match="payload_missing"):
        LinkOpener(RING, GATEWAY, "l", payloads=lambda tenant, digest: None).open(link)


def test_links_of_another_tenant_are_foreign_and_of_another_message_are_told_apart() -> None:
    link = minter().mint("https://a.example/", b"https://a.example/", "anchor")
    assert message_opener(OPENER, 8, 300, 70_000)(link) is None
    mine = message_opener(OPENER, 7, 300, 70_000)(link)
    other = message_opener(OPENER, 7, 301, 70_000)(link)
    assert mine is not None and mine.same_message
    assert other is not None and not other.same_message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://WWW.Example.com:8443/x", "www.example.com"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://[::1]/", "--1"),
        ("not a url", "link"),
        (
            "https://" + "a" * 60 + "." + "b" * 60 + ".example/",
            "--" + ("a" * 60 + "." + "b" * 60 + ".example")[-78:],
        ),
    ],
)
def test_the_visible_host_is_the_one_a_browser_would_go_to(url: str, shown: str) -> None:
    assert visible_host(url) == shown


def test_every_kind_of_link_the_transformer_finds_has_its_number() -> None:
    assert {kind.value for kind in LinkKind} <= set(KINDS)


@given(
    st.sampled_from(
        ["a.example", "A.B-c.Example", "0x7f.1", "1.2.3.4", "xn--bcher-kva.example", "xn--a", "a_b.c", "a..b"]
    )
)
def test_the_shown_host_is_the_same_with_and_without_the_short_cut(host: str) -> None:
    url = f"https://{host}/path"
    try:
        parsed = ada_url.URL(url).hostname
    except ValueError:
        parsed = ""
    if parsed:
        assert visible_host(url) == parsed.lower().strip("[]").replace(":", "-")
