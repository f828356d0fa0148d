"""A written body is verified by its meaning: links, inline images, and nothing else by the letter."""

from __future__ import annotations

from html import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.types import BodyContent
from connectors.base.verify import body_facts, verify_body
from connectors.emulators.microsoft.bodies import normalise

NEW = "https://gw.example/l/shop.example/TOKEN-1_a"
OLD = "https://shop.example/a?b=1&c=2"


def html(text: str) -> BodyContent:
    return BodyContent(text, is_html=True)


def text(content: str) -> BodyContent:
    return BodyContent(content, is_html=False)


SENT = html(f'<p>Look: <a href="{NEW}">{OLD}</a> <img src="cid:logo@x"></p>')


def test_the_same_body_is_identical() -> None:
    outcome = verify_body(SENT, SENT, [NEW], [OLD])

    assert outcome.ok and outcome.identical


def test_an_expected_link_that_was_never_written_is_missing_even_where_nothing_changed() -> None:
    outcome = verify_body(SENT, SENT, [NEW, "https://gw.example/l/other"], [OLD])

    assert outcome.missing == ("https://gw.example/l/other",)


@pytest.mark.parametrize(
    "normalised",
    [
        f"<html><head></head><body><P>Look: <A HREF='{NEW}'>{OLD.replace('&', '&amp;')}</A><IMG SRC=cid:logo@x></P>",
        f'<div><p>Look:\n<a  target=_blank href="{NEW}" data-auth="NotApplicable">{OLD}</a><img src="cid:logo@x">',
        f'<a href=" {NEW[:20]}\n{NEW[20:]} ">x</a><div style="background:url(cid:logo@x)"></div>',
    ],
)
def test_a_normalised_body_is_equal_in_meaning(normalised: str) -> None:
    outcome = verify_body(SENT, html(normalised), [NEW], [OLD])

    assert outcome.ok and not outcome.identical


def test_a_missing_link_is_found() -> None:
    outcome = verify_body(SENT, html(f"<p>{NEW}<img src='cid:logo@x'>"), [NEW], [OLD])

    assert outcome.missing == (NEW,)
    assert not outcome.ok


@pytest.mark.parametrize(
    "left",
    [
        '<a href="https://shop.example/a?b=1&amp;c=2">x</a>',
        '<a href="\thttps://shop.example/a?b=1&c=2 ">x</a>',
        '<map><area href="https://shop.example/a?b=1&amp;c=2"></map>',
        '<form action="https://shop.example/a?b=1&amp;c=2"></form>',
        '<!--[if mso]><a href="https://shop.example/a?b=1&amp;c=2">x</a><![endif]-->',
        '<svg><a xlink:href="https://shop.example/a?b=1&amp;c=2">x</a></svg>',
    ],
)
def test_a_replaced_link_that_can_still_be_clicked_is_found(left: str) -> None:
    got = html(f'<a href="{NEW}">x</a><img src="cid:logo@x">{left}')

    assert verify_body(SENT, got, [NEW], [OLD]).left == (OLD,)


def test_a_replaced_address_that_is_only_shown_is_not_a_link() -> None:
    assert verify_body(SENT, html(f'<a href="{NEW}">{OLD}</a><img src="cid:logo@x">'), [NEW], [OLD]).ok


def test_a_link_that_was_left_on_purpose_elsewhere_is_no_fault() -> None:
    sent = html(f'<a href="{NEW}">x</a><a href="{OLD}">y</a>')
    got = html(f"<div><a href='{NEW}'>x</a><a href='{OLD}'>y</a></div>")

    assert verify_body(sent, got, [NEW], [OLD]).ok


def test_a_lost_inline_image_is_found() -> None:
    outcome = verify_body(SENT, html(f'<a href="{NEW}">x</a>'), [NEW], [OLD])

    assert outcome.lost_cids == ("logo@x",)


def test_an_inline_image_is_lost_where_html_comes_back_as_text() -> None:
    assert not verify_body(SENT, text(f"Look: {NEW}"), [NEW], [OLD]).ok


def test_a_text_body_is_compared_by_its_addresses() -> None:
    sent = text(f"See {NEW}.\nBye")

    assert verify_body(sent, text(f"See {NEW}.\r\nBye\r\n"), [NEW], [OLD]).ok
    assert verify_body(sent, text(f"See {OLD}."), [NEW], [OLD]).missing == (NEW,)
    assert verify_body(sent, text(f"See {NEW}. {OLD}"), [NEW], [OLD]).left == (OLD,)


def test_a_longer_address_is_not_the_replaced_one() -> None:
    sent = text(f"{NEW} {OLD}/ignored")

    assert verify_body(sent, text(f"{NEW}  {OLD}/ignored"), [NEW], [OLD]).ok


def test_a_text_body_that_comes_back_as_html_is_compared_by_text_and_links() -> None:
    sent = text(f"See {NEW} now")

    assert verify_body(sent, html(f"<pre>See <a href='{NEW}'>{NEW}</a><br>now</pre>"), [NEW], [OLD]).ok
    assert not verify_body(sent, html("<pre>See nothing</pre>"), [NEW], [OLD]).ok


def test_without_links_to_look_for_text_and_links_must_be_the_same() -> None:
    sent = html("<p>hxxp://bad[.]example <b>x</b></p>")

    assert verify_body(sent, html("<html><body><p>hxxp://bad[.]example<b>\nx</b>")).ok
    assert verify_body(sent, html("<p>other</p>")).text_differs
    assert verify_body(sent, html('<p>hxxp://bad[.]example <a href="u">x</a></p>')).text_differs


def test_the_outcome_names_no_address_from_the_mail() -> None:
    outcome = verify_body(SENT, html(f'<a href="{OLD}">x</a>'), [NEW], [OLD])

    assert "example" not in str(outcome)
    assert str(outcome) == "1 expected link(s) missing, 1 replaced link(s) left, 1 inline reference(s) lost"


def test_facts_of_ten_thousand_links_and_of_broken_markup_are_read() -> None:
    many = "".join(f'<a href="https://x.example/{n}">x</a>' for n in range(10_000))

    assert len(body_facts(html(many)).links) == 10_000
    assert body_facts(html("<a href='https://x.example/unterminated")).links == {}


SHAPES = (
    '<a href="{}">x</a>',
    "<A HREF='{}'>x</A>",
    '<map><area href="{}"></map>',
    '<form action="{}"><button formaction="{}">go</button></form>',
    '<!--[if mso]><a href="{}">x</a><![endif]-->',
    '<table><tr><td><b><a href="{}"><img src="cid:a@b"></a></b>',
    '<p>a & b &nbsp; <a title="x > y" href="{}">{}</a>',
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SHAPES), st.integers(0, 9)), min_size=1, max_size=12), st.data())
def test_normalising_is_never_mistaken_for_a_loss_nor_a_left_link_overlooked(
    links: list[tuple[str, int]], data: st.DataObject
) -> None:
    def page(reverted: int | None = None) -> str:
        made = []
        for index, (shape, number) in enumerate(links):
            url = old(number) if index == reverted else new(number)
            made.append(shape.replace("{}", escape(url)))
        return "<html><body>" + "\n".join(made)

    def old(number: int) -> str:
        return f"https://shop.example/{number}?a=1&b={number}"

    def new(number: int) -> str:
        return f"https://gw.example/l/shop.example/T{number}&{number}"

    expected = [new(number) for _, number in links]
    replaced = [old(number) for _, number in links]
    sent = html(page())

    assert verify_body(sent, html(normalise(page())), expected, replaced).ok
    index = data.draw(st.integers(0, len(links) - 1))
    outcome = verify_body(sent, html(normalise(page(index))), expected, replaced)
    assert outcome.left == (old(links[index][1]),)
