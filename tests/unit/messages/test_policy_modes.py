"""What a policy can have done with a link, what is noticed about it, and how each is taken back."""

from __future__ import annotations

import re

import pytest
from selectolax.lexbor import LexborHTMLParser

from app.messages import (
    FoundLink,
    LinkAction,
    StyleOptions,
    TransformPlan,
    TransformResult,
    restore,
    restore_body,
    strip_marker,
    transform,
    transform_body,
)
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, leave, message, multipart, part

HTML = '<p>See <a class="b" href="https://evil.example/a.b?c=d">here</a> or http://bare.example/x.</p>'
TEXT = "See https://evil.example/a.b?c=d or www.two.example."


def _done(html: str, gateway: GatewayDouble, **options: object) -> str:
    done = transform_body(html, True, gateway.plan(**options))
    assert restore_body(done.content, True, gateway.open, done.undo).content == html
    return done.content


def _codes(result: TransformResult) -> list[str]:
    return [finding.code for link in result.links for finding in link.link.findings]


def _always(action: LinkAction) -> object:
    return lambda link: action


def test_a_link_that_the_policy_leaves_is_left() -> None:
    assert transform_body(HTML, True, GatewayDouble().plan(decide=leave)).content == HTML


def test_redacting_puts_the_tenants_words_in_place_of_addresses() -> None:
    gateway = GatewayDouble()
    options = {"decide": _always(LinkAction.REDACT), "redact_text": "<removed & gone>"}
    assert _done(HTML, gateway, **options) == (
        '<p>See <a class="b" href="#">here</a> or &lt;removed &amp; gone&gt;.</p>'
    )
    done = transform_body(TEXT, False, gateway.plan(**options))
    assert done.content == "See <removed & gone> or <removed & gone>."
    assert restore_body(done.content, False, gateway.open, done.undo).content == TEXT


@pytest.mark.parametrize(
    ("style", "shown"),
    [
        (StyleOptions(hxxp=True, brackets=True), "hxxps://evil[.]example/a.b?c=d"),
        (StyleOptions(hxxp=True, brackets=False), "hxxps://evil.example/a.b?c=d"),
        (StyleOptions(hxxp=False, brackets=True), "https://evil[.]example/a.b?c=d"),
    ],
)
def test_styling_makes_an_address_unclickable_and_readable(style: StyleOptions, shown: str) -> None:
    gateway = GatewayDouble()
    plan = gateway.plan(decide=_always(LinkAction.STYLE), style=style)
    done = transform_body("x https://evil.example/a.b?c=d y", False, plan)
    assert done.content == f"x {shown} y"
    href = LexborHTMLParser(_done(HTML, gateway, decide=_always(LinkAction.STYLE), style=style)).css("a")[0]
    assert not re.match(r"(?i)https?:", href.attributes["href"] or "")


def test_styling_can_take_the_target_out_altogether() -> None:
    content = _done(HTML, GatewayDouble(), decide=_always(LinkAction.STYLE), style=StyleOptions(remove_href=True))
    assert content == '<p>See <a class="b" href="#">here</a> or hxxp://bare[.]example/x.</p>'


def test_each_link_can_have_its_own_action() -> None:
    def decide(link: FoundLink) -> LinkAction:
        suspicious = any(finding.code == "ip_host_disguised" for finding in link.findings)
        return LinkAction.REDACT if suspicious else LinkAction.REWRITE

    html = '<a href="http://0x7f.1/">a</a><a href="http://good.example/">b</a>'
    done = transform_body(html, True, GatewayDouble().plan(decide=decide))
    assert [link.action for link in done.links] == [LinkAction.REDACT, LinkAction.REWRITE]
    assert done.content.startswith('<a href="#">a</a><a href="https://gw.example/')


def test_a_tag_is_put_on_rewritten_links_that_have_no_title() -> None:
    html = '<a href="http://a.example/">a</a><a title=mine href=http://b.example/>b</a>'
    content = _done(html, GatewayDouble(), tag='Protected by "us"')
    links = LexborHTMLParser(content).css("a")
    assert [link.attributes.get("title") for link in links] == ['Protected by "us"', "mine"]


def test_tracking_parameters_are_named_and_removed_only_when_asked() -> None:
    html = '<a href="http://a.example/?id=1&amp;utm_source=mail&amp;x_track=2">a</a>'
    gateway = GatewayDouble()
    found = transform_body(html, True, gateway.plan()).links[0].link
    assert found.url == "http://a.example/?id=1&utm_source=mail&x_track=2"
    assert "tracking_parameters" in [finding.code for finding in found.findings]
    _done(html, gateway, strip_tracking=True, tracking_patterns=("x_.*",))
    assert gateway.minted[-1].url == "http://a.example/?id=1"


def test_links_to_unsubscribe_are_never_made_unusable() -> None:
    raw = message(
        '<a href="https://list.example/u?x=1">unsubscribe</a><a href="https://evil.example/">x</a>',
        headers="List-Unsubscribe: <mailto:u@list.example>,\n <https://list.example/u?x=1>\n",
    )
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan(decide=_always(LinkAction.REDACT)))
    assert [link.action for link in done.links] == [LinkAction.LEAVE, LinkAction.REDACT]
    assert b"List-Unsubscribe: <mailto:u@list.example>,\r\n <https://list.example/u?x=1>\r\n" in done.content
    rewritten = transform(raw, gateway.plan())
    assert [link.link.unsubscribe for link in rewritten.links] == [True, False]
    left = transform(raw, gateway.plan(leave_unsubscribe=True))
    assert [link.action for link in left.links] == [LinkAction.LEAVE, LinkAction.REWRITE]


def test_another_vendors_wrapper_is_judged_by_what_is_inside() -> None:
    wrapped = "https://eur01.safelinks.protection.outlook.com/?url=http%3A%2F%2F0x7f.1%2Flogin&data=1"
    done = transform_body(f'<a href="{wrapped.replace("&", "&amp;")}">x</a>', True, GatewayDouble().plan())
    link = done.links[0].link
    assert link.url == wrapped
    assert link.inner_url == "http://0x7f.1/login"
    assert {"wrapped", "ip_host_disguised"} <= {finding.code for finding in link.findings}


def test_a_link_of_ours_in_a_forwarded_mail_is_made_anew_for_this_recipient() -> None:
    theirs = GatewayDouble("their-message")
    forwarded = transform_body('<a href="http://evil.example/a">x</a>', True, theirs.plan()).content
    ours = GatewayDouble("our-message")
    done = transform_body(forwarded, True, ours.plan())
    assert done.links[0].link.url == "http://evil.example/a"
    assert [finding.code for finding in done.links[0].link.findings] == ["forwarded_gateway_link"]
    assert done.content != forwarded
    assert restore_body(done.content, True, ours.open).content == forwarded


@pytest.mark.parametrize(
    "url", [f"{GATEWAY}/l/bank.example/forged", f"{GATEWAY}", f"{GATEWAY}/login", "HTTPS://GW.EXAMPLE/x"]
)
def test_a_link_that_pretends_to_be_ours_is_suspicious(url: str) -> None:
    done = transform_body(f'<a href="{url}">x</a>', True, GatewayDouble().plan())
    assert [finding.code for finding in done.links[0].link.findings] == ["forged_gateway_link"]
    assert done.links[0].gateway_url is not None


def test_a_host_that_only_begins_like_ours_is_not_ours() -> None:
    done = transform_body(f'<a href="{GATEWAY}.evil.example/">x</a>', True, GatewayDouble().plan())
    assert done.links[0].link.url == f"{GATEWAY}.evil.example/"


def test_without_an_opener_our_own_links_are_left() -> None:
    plan = TransformPlan(GATEWAY, GatewayDouble().mint)
    assert not transform_body(f'<a href="{GATEWAY}/l/x/y">x</a>', True, plan).changed


@pytest.mark.parametrize(
    ("html", "code"),
    [
        ('<a href="http://evil.example/">https://www.paypal.com/login</a>', "text_mismatch"),
        ('<a href="https://bit.ly/3abc">x</a>', "shortener"),
        ('<a href="http://192.0.2.7/">x</a>', "ip_host"),
        ('<a href="http://0300.0.2.7/">x</a>', "ip_host_disguised"),
        ('<a href="http://b\u00fccher.example/">x</a>', "punycode"),
        ('<a href="https://\u0440\u0430ypal.com/">x</a>', "homograph"),
        ('<a href="https://tennant.example/">x</a>', "lookalike"),
        ('<a href="http://evil.example/" style="display:none">x</a>', "hidden"),
        ('<a href="http://evil.example/" style="font-size: 0px;">x</a>', "hidden"),
        ('<a href="http://ev\u200bil.example/">x</a>', "invisible_characters"),
        ('<a href="http://evil.example/">pay\u202epal</a>', "invisible_characters"),
        ('<a href="http://paypal.com@evil.example/">x</a>', "user_information"),
    ],
)
def test_what_is_noticed_says_where_and_in_words(html: str, code: str) -> None:
    done = transform(message(html), GatewayDouble().plan(own_domains=("tenant.example",)))
    assert code in _codes(done)
    finding = next(f for link in done.links for f in link.link.findings if f.code == code)
    assert finding.where == "1 anchor"
    assert finding.message.endswith(".")


def test_an_ordinary_link_has_no_findings() -> None:
    done = transform(message('<a href="https://www.example.com/">our site</a>'), GatewayDouble().plan())
    assert _codes(done) == []


def test_a_frame_is_named() -> None:
    done = transform(
        message('<iframe src="http://evil.example/"></iframe><a href="http://a.example">x</a>'), GatewayDouble().plan()
    )
    assert [finding.code for finding in done.findings] == ["embedded_frame"]


def test_a_mint_that_refuses_leaves_the_link_and_says_so() -> None:
    def refuse(link: FoundLink) -> str:
        raise ValueError("no key")

    raw = message(HTML)
    done = transform(raw, TransformPlan(GATEWAY, refuse))
    assert done.content == raw
    assert {warning.code for warning in done.warnings} == {"not_minted"}
    assert {link.action for link in done.links} == {LinkAction.LEAVE}


def test_a_bare_address_is_wrapped_without_changing_what_is_read() -> None:
    html = "<p>http://a.example/?b=1&amp;c=2, &#104;ttp://b.example and &lt;www.c.example&gt;</p><style>http://s.example</style>"
    gateway = GatewayDouble()
    content = _done(html, gateway)
    assert [gateway.target(str(a.attributes["href"])) for a in LexborHTMLParser(content).css("a")] == [
        "http://a.example/?b=1&c=2",
        "http://b.example",
        "http://www.c.example",
    ]
    before, after = LexborHTMLParser(html).body, LexborHTMLParser(content).body
    assert before is not None
    assert after is not None
    assert after.text() == before.text()


def test_text_and_html_that_disagree_are_both_rewritten() -> None:
    raw = multipart(
        part("good http://good.example/", "text/plain"), part('<a href="http://evil.example/">x</a>', "text/html")
    )
    done = transform(raw, GatewayDouble().plan())
    assert [(link.link.part, link.link.url) for link in done.links] == [
        ("1", "http://good.example/"),
        ("2", "http://evil.example/"),
    ]


def test_an_undo_record_of_another_message_is_refused_and_named() -> None:
    gateway = GatewayDouble()
    plan = gateway.plan(decide=_always(LinkAction.REDACT))
    one, other = transform(message(HTML), plan), transform(message(HTML + "x"), plan)
    back = restore(one.content, gateway.open, other.undo)
    assert back.content == one.content
    assert [failure.reason.partition(":")[0] for failure in back.failed] == ["undo_mismatch"]
    for damaged in (b"", b"x", (one.undo or b"")[:-3], (one.undo or b"") + b"x" * 9):
        assert isinstance(restore(one.content, gateway.open, damaged).content, bytes)


def test_only_links_of_this_message_are_taken_back() -> None:
    other = GatewayDouble("other")
    content = transform(message(HTML), other.plan()).content
    assert not restore(content, GatewayDouble("this").open).changed


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"X-Postern: a\r\n", b""),
        (b"X-Postern: a\r\n b\r\nX-Postern-Id: c\r\n", b""),
        (b"Received: a\r\nX-Postern: b\r\n", b"Received: a\r\n"),
        (b"Received: a\r\n\tb\r\nx-postern: c\r\nReceived: d\r\n", b"Received: a\r\n\tb\r\nReceived: d\r\n"),
        (b"From: a\r\nX-Postern: b\r\n", b"From: a\r\nX-Postern: b\r\n"),
    ],
)
def test_the_connectors_marker_is_taken_off_the_head_and_nowhere_else(head: bytes, kept: bytes) -> None:
    assert strip_marker(head + b"Subject: x\r\n\r\nbody") == kept + b"Subject: x\r\n\r\nbody"
