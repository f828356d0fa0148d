"""HTML that Exchange makes of a plain text: its inline signature stays valid, and nothing else passes for it."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages import transform_body
from app.messages.from_text import is_armoured_text, plain_text
from app.messages.types import SkipReason
from connectors.emulators.microsoft.bodies import text_to_html
from tests.unit.messages.gateway_double import GatewayDouble

ARMOURED = (
    "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\n"
    "See http://signed.example/a?b=1&c=2 & www.two.example.\r\n"
    "-----BEGIN PGP SIGNATURE-----\r\n\r\niQEz\r\n-----END PGP SIGNATURE-----\r\n"
)
HEAD = '<html><head><meta http-equiv="Content-Type" content="text/html; charset=utf-8"></head><body>'


def test_a_signed_text_that_exchange_shows_as_html_stays_as_it_is() -> None:
    content = text_to_html(ARMOURED)
    done = transform_body(content, True, GatewayDouble().plan())
    assert done.skipped is SkipReason.PGP_INLINE
    assert done.content == content
    assert {found.link.url for found in done.links} >= {"http://signed.example/a?b=1&c=2"}


def test_an_encrypted_text_counts_as_well_and_a_key_does_not() -> None:
    assert is_armoured_text(text_to_html("-----BEGIN PGP MESSAGE-----\r\n\r\nhQEM\r\n-----END PGP MESSAGE-----\r\n"))
    assert not is_armoured_text(text_to_html("-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n\r\nmQEN\r\n"))
    assert not is_armoured_text(text_to_html("He wrote -----BEGIN PGP SIGNED MESSAGE----- there."))


def test_links_as_outlook_on_the_web_marks_them_are_part_of_a_text() -> None:
    link = (
        '<a href="http://a.example/" target="_blank" rel="noopener noreferrer" data-auth="NotApplicable" '
        'class="OWAAutoLink" id="LPlnk1">http://a.example</a>'
    )
    assert plain_text(f"{HEAD}{link}<br>\r\n&lt;b&gt;</body></html>") == "\n\n\n\nhttp://a.example\n\r\n<b>\n\n"


@pytest.mark.parametrize(
    "written",
    [
        '<a href="http://evil.example/">http://bank.example/</a>',
        '<a href="http://evil.example/">Sign in</a>',
        '<a href="http://evil.example/"></a>',
        '<a href="http://evil.example/"><b>http://evil.example/</b></a>',
        '<a href="http://evil.example/" href="http://evil.example/">http://evil.example/</a>',
        '<a href="http://evil.example/" onclick="x()">http://evil.example/</a>',
        '<a href="http://evil.example/">http://evil.example/',
        '<img src="http://evil.example/pixel">',
        '<form action="http://evil.example/"><button>Sign in</button></form>',
        '<div style="display:none">hidden</div>',
        '<div style="background:url(http://evil.example/)">x</div>',
        '<div style="d\\69splay:none">x</div>',
        '<p onclick="x()">x</p>',
        "<p hidden>x</p>",
        '<meta http-equiv="refresh" content="0;url=http://evil.example/">',
        '<base href="http://evil.example/">',
        "<style>.x{display:none}</style>",
        "<style>@import 'http://evil.example/';</style>",
        "<style><!-- </style><a href='http://evil.example/'>in</a> --></style>",
        "<!--[if mso]><a href='http://evil.example/'>in</a><![endif]-->",
        "<!--> <a href='http://evil.example/'>Sign in</a> -->",
        "<!---> <a href='http://evil.example/'>Sign in</a> -->",
        "<!-- --!> <a href='http://evil.example/'>Sign in</a> -->",
        "<svg><a href='http://evil.example/'>in</a></svg>",
        "<title><a href='http://evil.example/'>in</a></title>",
        "<a href='http://evil.example/'",
        "<plaintext>",
        "<style>.x{color:red}",
        '<style>.x:before{content:"Your bank"}</style>',
        "<style>.x{font-size:0}</style>",
        "<style>.x{margin-left:-99px}</style>",
        "<style></\u017ftyle>.x{position:fixed}<style></style>",
        "<style></style\xa0>.x{position:fixed}<style></style>",
        "<style></style\x0b>.x{position:fixed}<style></style>",
        '<div style="font-size:0px">x</div>',
        '<div style="height:0;overflow:hidden">x</div>',
        '<div style="text-indent:-999px">x</div>',
        '<font color="white">x</font>',
        "<title>x</title>",
        '<a href="http://3232235777">3232235777</a>',
        '<a href="http://Your-invoice">Your-invoice</a>',
        '<a href="http://support@evil.example">support@evil.example</a>',
        '<a href="https://bank.example&nbspx.evil.example">https://bank.example&nbspx.evil.example</a>',
        '<a href="http://evil.example/\u202e">http://evil.example/\u202e</a>',
        '<a href="http://evil.exam&#10;ple/">http://evil.exam&#10;ple/</a>',
    ],
)
def test_what_no_plain_text_has_is_rewritten_however_much_armour_it_wears(written: str) -> None:
    body = html.escape(ARMOURED, quote=False).replace("\r\n", "<br>\r\n")
    for content in (f"{HEAD}{body}{written}</body></html>", f"{HEAD}{written}{body}</body></html>"):
        assert not is_armoured_text(content)
        assert transform_body(content, True, GatewayDouble().plan()).skipped is None


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), max_size=60))
def test_whatever_a_text_says_its_html_is_known_again(text: str) -> None:
    assert is_armoured_text(text_to_html(f"{ARMOURED}{text}"))


@pytest.mark.parametrize(
    "hostile", ["<style>", "<a", "<a x", "<style", "<", "<!--", "<a href=", "<style>x{", "<style>x{};"]
)
@pytest.mark.parametrize("filled", [" ", "\n", "<", "x", "x{}", "&", ";"])
def test_no_markup_keeps_it_for_longer_than_one_walk(hostile: str, filled: str) -> None:
    text = f"-----BEGIN PGP MESSAGE-----\n{hostile}{filled * (400_000 // len(filled))}>"
    assert not is_armoured_text(text)


@pytest.mark.parametrize("repeated", ["<a ", "<style>", "<style></style", "<style><!--", "</style ", "<div style='"])
def test_nor_does_markup_that_begins_over_and_over(repeated: str) -> None:
    assert not is_armoured_text("-----BEGIN PGP MESSAGE-----\n" + repeated * (400_000 // len(repeated)))
