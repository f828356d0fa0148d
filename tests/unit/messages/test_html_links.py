"""Links that hide from a rewriter in HTML: each one is found, and the independent parser agrees."""

from __future__ import annotations

import re

import pytest
from selectolax.lexbor import LexborHTMLParser

from app.messages import LinkKind, restore, restore_body, transform, transform_body
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message

EVIL = "http://evil.example/a"

# Markup, and the absolute targets that a browser would go to when a person clicks.
VECTORS: dict[str, tuple[str, list[str]]] = {
    "plain": ('<a href="http://evil.example/a">x</a>', [EVIL]),
    "single quotes": ("<a href='http://evil.example/a'>x</a>", [EVIL]),
    "unquoted": ("<a href=http://evil.example/a>x</a>", [EVIL]),
    "unquoted before slash": ("<a href=http://evil.example/a/>x</a>", [EVIL + "/"]),
    "area": ('<map name=m><area href="http://evil.example/a"></map>', [EVIL]),
    "form": ('<form action="http://evil.example/a"><input></form>', [EVIL]),
    "formaction on button": ('<form><button formaction="http://evil.example/a">x</button></form>', [EVIL]),
    "formaction on input": ('<form><input type=submit formaction="http://evil.example/a"></form>', [EVIL]),
    "svg href": ('<svg><a href="http://evil.example/a"><text>x</text></a></svg>', [EVIL]),
    "svg xlink": ('<svg><a xlink:href="http://evil.example/a"><text>x</text></a></svg>', [EVIL]),
    "svg animated": (
        '<svg><a><animate attributeName="href" values="http://evil.example/a"/><text>x</text></a></svg>',
        [EVIL],
    ),
    "svg set": ('<svg><a><set attributeName=href to="http://evil.example/a"/><text>x</text></a></svg>', [EVIL]),
    "mathml": ('<math><mtext href="http://evil.example/a">x</mtext></math>', [EVIL]),
    "meta refresh": ('<meta http-equiv="refresh" content="0; url=http://evil.example/a">', [EVIL]),
    "meta refresh quoted": ("<meta http-equiv=Refresh content=\"3;URL='http://evil.example/a'\">", [EVIL]),
    "meta refresh bare": ('<meta http-equiv=refresh content="0,http://evil.example/a">', [EVIL]),
    "ping": (
        '<a href="http://evil.example/a" ping="http://evil.example/p http://o.example/">x</a>',
        [EVIL, "http://evil.example/p"],
    ),
    "vml in comment": (
        '<!--[if mso]><v:roundrect href="http://evil.example/a"><center>x</center></v:roundrect><![endif]-->',
        [EVIL],
    ),
    "anchor in comment": ('<!--[if gte mso 9]><a href="http://evil.example/a">x</a><![endif]-->', [EVIL]),
    "comment with blanks": ('<!-- [if mso]> <a href="http://evil.example/a">x</a> <![endif]-->', [EVIL]),
    "revealed comment": ('<![if !mso]><a href="http://evil.example/a">x</a><![endif]>', [EVIL]),
    "revealed comment, valid": ('<!--[if !mso]><!--><a href="http://evil.example/a">x</a><!--<![endif]-->', [EVIL]),
    "nested conditionals": (
        '<!--[if mso]><!--[if gte mso 9]><a href="http://evil.example/a">x</a><![endif]--><![endif]-->',
        [EVIL],
    ),
    "vml outside a comment": ('<v:rect href="http://evil.example/a">x</v:rect>', [EVIL]),
    "noscript": ('<noscript><a href="http://evil.example/a">x</a></noscript>', [EVIL]),
    "template": ('<template><a href="http://evil.example/a">x</a></template>', [EVIL]),
    "title is text": ('<title><a href="http://evil.example/a">x</a></title>', []),
    "textarea is text": ('<textarea><a href="http://evil.example/a">x</a></textarea>', []),
    "style is text": ('<style>@import "http://evil.example/a"; a{b:"<a href=http://evil.example/a>"}</style>', []),
    "misnested": (
        '<a href="http://evil.example/a">x<div>y<a href="http://two.example/">z</a></div>',
        [EVIL, "http://two.example/"],
    ),
    "cloned": ('<p><a href="http://evil.example/a">x<p>y</a>', [EVIL]),
    "in table": ('<table><a href="http://evil.example/a">x</a><tr><td>y</table>', [EVIL]),
    "duplicate attribute": (
        '<a href="http://evil.example/a" href="http://two.example/">x</a>',
        [EVIL, "http://two.example/"],
    ),
    "no white space": ('<a title="x"href="http://evil.example/a"class=y>x</a>', [EVIL]),
    "slash as separator": ("<a/href=http://evil.example/a>x</a>", [EVIL]),
    "upper case": ('<A HREF="http://evil.example/a">x</A>', [EVIL]),
    "tag across lines": ('<a\r\n  href\r\n = \r\n"http://evil.example/a"\r\n>x</a>', [EVIL]),
    "greater-than in attribute": ('<a title="a > b" href="http://evil.example/a">x</a>', [EVIL]),
    "tab in scheme": ('<a href="ht\ttp://evil.example/a">x</a>', [EVIL]),
    "newline in scheme": ('<a href="ht\r\ntp://evil.exa\nmple/a">x</a>', [EVIL]),
    "leading blanks": ('<a href=" \x01\x1f http://evil.example/a ">x</a>', [EVIL]),
    "encoded scheme": ('<a href="&#104;ttp://evil.example/a">x</a>', [EVIL]),
    "encoded without semicolon": ('<a href="&#104ttp&#58//evil.example/a">x</a>', [EVIL]),
    "hex references": ('<a href="&#x68;&#X74;tp&colon;&sol;&sol;evil.example/a">x</a>', [EVIL]),
    "named newline": ('<a href="ht&NewLine;tp&Tab;://evil.example/a">x</a>', [EVIL]),
    "ampersands": (
        '<a href="http://evil.example/a?b=1&amp;c=2&copy=3&lt=4">x</a>',
        ["http://evil.example/a?b=1&c=2&copy=3&lt=4"],
    ),
    "scheme-relative": ('<a href="//evil.example/a">x</a>', ["https://evil.example/a"]),
    "backslashes": ('<a href="\\\\evil.example/a">x</a>', ["https://evil.example/a"]),
    "mixed slashes": ('<a href="/\\evil.example/a">x</a>', ["https://evil.example/a"]),
    "http backslashes": ('<a href="http:\\\\evil.example\\a">x</a>', [EVIL]),
    "one slash": ('<a href="http:/evil.example/a">x</a>', [EVIL]),
    "no slash": ('<a href="http:evil.example/a">x</a>', [EVIL]),
    "many slashes": ('<a href="http:////evil.example/a">x</a>', [EVIL]),
    "mixed-case scheme": ('<a href="hTTp://evil.example/a">x</a>', ["hTTp://evil.example/a"]),
    "user information": ('<a href="http://bank.example@evil.example/a">x</a>', ["http://bank.example@evil.example/a"]),
    "decimal address": ('<a href="http://3232235777/">x</a>', ["http://3232235777/"]),
    "octal address": ('<a href="http://0300.0250.01.01/">x</a>', ["http://0300.0250.01.01/"]),
    "hex address": ('<a href="http://0xC0A80101/">x</a>', ["http://0xC0A80101/"]),
    "ipv6 with zone": ('<a href="http://[fe80::1%25eth0]/">x</a>', ["http://[fe80::1%25eth0]/"]),
    "percent-encoded host": ('<a href="http://%65vil.example/">x</a>', ["http://%65vil.example/"]),
    "international host": ('<a href="http://b\u00fccher.example/\u00e9">x</a>', ["http://b\u00fccher.example/\u00e9"]),
    "zero-width in host": ('<a href="http://ev\u200bil.example/">x</a>', ["http://ev\u200bil.example/"]),
    "unparsable": ('<a href="http://[/">x</a>', ["http://[/"]),
    "empty host": ('<a href="http://">x</a>', ["http://"]),
    "very long": (f'<a href="http://evil.example/{"a" * 20_000}">x</a>', [f"http://evil.example/{'a' * 20_000}"]),
    "nul in value": ('<a href="http://evil.example/\0a">x</a>', ["http://evil.example/\0a"]),
    "base and relative": (
        '<base href="http://evil.example/d/"><a href="x">x</a><a href="/y?z">y</a>',
        ["http://evil.example/d/", "http://evil.example/d/x", "http://evil.example/y?z"],
    ),
    "second base ignored": (
        '<base href="http://evil.example/"><base href="http://two.example/"><a href="x">x</a>',
        ["http://evil.example/", "http://two.example/", "http://evil.example/x"],
    ),
    "base in the body": (
        '<body><a href="x">x</a><base href="http://evil.example/">',
        ["http://evil.example/x", "http://evil.example/"],
    ),
    "unterminated quote": (
        '<a href="http://evil.example/a>x</a> <p title="y">z',
        ["http://evil.example/a>x</a> <p title="],
    ),
    "tag never closed": ('<a href="http://evil.example/a"', []),
    "inside an attribute": ('<p title="<a href=http://evil.example/a>x</a>">y</p>', []),
    "inside a comment": ('<!-- <a href="http://evil.example/a">x</a> -->', []),
}


def _targets(gateway: GatewayDouble, html: str) -> list[str]:
    return [gateway.target(url) for url in re.findall(re.escape(GATEWAY) + r"/l/[\w.\-/]*", html)]


@pytest.mark.parametrize("name", VECTORS)
def test_every_link_leads_to_the_gateway_and_back(name: str) -> None:
    html, expected = VECTORS[name]
    gateway = GatewayDouble()
    raw = message(html)
    done = transform(raw, gateway.plan())
    assert _targets(gateway, done.content.decode()) == expected
    assert restore(done.content, gateway.open, done.undo).content == raw
    again = transform(done.content, gateway.plan())
    assert again.content == done.content


@pytest.mark.parametrize("name", VECTORS)
def test_a_graph_body_is_treated_like_a_part(name: str) -> None:
    html, expected = VECTORS[name]
    gateway = GatewayDouble()
    done = transform_body(html, True, gateway.plan())
    assert _targets(gateway, done.content) == expected
    assert restore_body(done.content, True, gateway.open, done.undo).content == html


@pytest.mark.parametrize("name", VECTORS)
def test_the_second_parser_finds_no_other_target(name: str) -> None:
    html, _ = VECTORS[name]
    done = transform_body(html, True, GatewayDouble().plan())
    for node in LexborHTMLParser(done.content).css("a[href],area[href],form[action],button[formaction]"):
        for attribute in ("href", "action", "formaction"):
            value = re.sub("[\t\r\n]", "", node.attributes.get(attribute) or "").strip("".join(map(chr, range(33))))
            if re.match(r"(?i)https?:|[/\\]{2}", value):
                assert value.startswith(GATEWAY)


@pytest.mark.parametrize("name", VECTORS)
def test_elements_and_visible_text_stay_the_same(name: str) -> None:
    html, _ = VECTORS[name]
    done = transform_body(html, True, GatewayDouble().plan())
    before, after = LexborHTMLParser(html), LexborHTMLParser(done.content)
    assert [node.tag for node in before.css("*")] == [node.tag for node in after.css("*")]
    assert before.root is not None
    assert after.root is not None
    assert before.root.text() == after.root.text()


@pytest.mark.parametrize(
    "href",
    ["mailto:a@b.example", "tel:+49301234", "cid:image1", "#top", "page.html", "", "sms:123", "{{ url }}", "webcal:x"],
)
def test_what_is_no_web_link_is_left_alone(href: str) -> None:
    html = (
        f'<a href="{href}">x</a><img src="http://images.example/a.png"><link rel=stylesheet href="http://css.example/">'
    )
    assert not transform(message(html), GatewayDouble().plan()).changed


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        " jav\tascript:alert(1)",
        "&#106;avascript:alert(1)",
        "data:text/html,<b>x</b>",
        "blob:https://a.example/1",
        "file:///etc/passwd",
        "vbscript:msgbox(1)",
        "ms-msdt:/id",
        "ms-word:ofe|u|http://evil.example/a.docx",
        "search-ms:query=x&crumb=location:\\\\evil.example",
    ],
)
def test_dangerous_schemes_are_made_harmless_and_reported(href: str) -> None:
    html = f"<p>before <a href='{href}' title=t>x</a> after</p>"
    gateway = GatewayDouble()
    done = transform(message(html), gateway.plan())
    assert done.content == message("<p>before <a href='#' title=t>x</a> after</p>")
    assert [finding.code for link in done.links for finding in link.link.findings] == ["dangerous_scheme"]
    assert gateway.minted == []
    assert restore(done.content, gateway.open, done.undo).content == message(html)


def test_ten_thousand_links_are_all_rewritten() -> None:
    html = "".join(f'<a href="http://evil.example/{i}">{i}</a>\n' for i in range(10_000))
    gateway = GatewayDouble()
    done = transform(message(html), gateway.plan())
    assert len(done.links) == 10_000
    assert restore(done.content, gateway.open).content == message(html)


def test_a_link_two_hundred_elements_deep_is_found() -> None:
    html = "<div><table><tr><td>" * 200 + '<a href="http://evil.example/a">x</a>'
    assert len(transform(message(html), GatewayDouble().plan()).links) == 1


def test_the_kind_of_link_is_told() -> None:
    html = (
        '<a href="http://a.example/">x</a><form action="http://b.example/"></form>'
        '<svg><a href="http://c.example/"></a></svg><!--[if mso]><v:rect href="http://d.example/"><![endif]-->'
    )
    done = transform(message(html), GatewayDouble().plan())
    assert [link.link.kind for link in done.links] == [LinkKind.ANCHOR, LinkKind.FORM, LinkKind.SVG, LinkKind.VML]
