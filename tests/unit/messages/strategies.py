"""Messages for property tests: mostly well-formed, with everything that makes links hard to find and to put back."""

from __future__ import annotations

import base64
import binascii
import quopri

from hypothesis import strategies as st

_URLS = st.sampled_from(
    [
        "http://evil.example/a",
        "https://a.example/?b=1&amp;c=2",
        "HTTPS://A.example:8443/x#y",
        "//c.example/",
        "http://\u00fcml\u00e4ut.example/\u4e2d",
        "http://x.example/" + "long/" * 40,
        "mailto:a@b.example",
        "javascript:alert(1)",
        "#top",
        "rel/path",
        "&#104;ttp://d.example/=",
        "https://gw.example/l/site.example/forged",
        "https://gw.example",
    ]
)
_WORDS = st.sampled_from(
    [
        "Hello",
        "caf\u00e9",
        "\u65e5\u672c\u8a9e",
        "a=b",
        "x" * 90,
        "http://bare.example/x.",
        "(www.bare.example)",
        "--b1",
        "=",
        "&amp;",
        " \t",
        ".",
    ]
)
_QUOTES = st.sampled_from(['"', "'", ""])


@st.composite
def _tag(draw: st.DrawFn) -> str:
    url, quote, word = draw(_URLS), draw(_QUOTES), draw(_WORDS)
    value = f"{quote}{url}{quote}"
    form = draw(st.integers(0, 9))
    return [
        f"<a href={value}>{word}</a>",
        f"<A class=b HREF = {value} title='x > y'>{word}</A>",
        f"<form action={value}><button formaction={value}>{word}</button></form>",
        f"<!--[if mso]><v:rect href={value}>{word}</v:rect><![endif]-->",
        f"<svg><a xlink:href={value}><text>{word}</text></a></svg>",
        f"<p>{word}<b>{url}</b>",
        f"<base href={value}>",
        f"<meta http-equiv=refresh content='0;url={url}'>",
        f"<img src={value}><style>a{{b:url({url})}}</style>",
        f"<noscript><a href={value}>{word}</noscript><template><a href={value}></template>",
    ][form]


_EOLS = st.sampled_from(["\r\n", "\n"])


@st.composite
def html(draw: st.DrawFn) -> str:
    """HTML with links in every place."""
    pieces = draw(st.lists(st.one_of(_tag(), _WORDS), max_size=8))
    return draw(st.sampled_from(["", " ", "\n"])).join(pieces)


@st.composite
def text(draw: st.DrawFn) -> str:
    """Plain text with addresses."""
    pieces = draw(st.lists(st.one_of(_URLS, _WORDS), max_size=10))
    return draw(st.sampled_from([" ", "\n", ""])).join(pieces)


@st.composite
def leaf(draw: st.DrawFn) -> bytes:
    """One part, header and body."""
    eol = draw(_EOLS)
    is_html = draw(st.booleans())
    body = draw(html() if is_html else text()).replace("\n", eol)
    charset = draw(
        st.sampled_from(
            ["utf-8", "iso-8859-1", "utf-16", "iso-2022-jp", "gb18030", "shift_jis", "utf-7", "nonsense", ""]
        )
    )
    try:
        data = body.encode(charset or "utf-8")
    except (LookupError, UnicodeError):
        data = body.encode("utf-8")
    data = draw(st.sampled_from([data, data, data + b"\xff\xfe\x80", data.replace(b" ", b"\0", 1)]))
    encoding = draw(
        st.sampled_from(["7bit", "8bit", "quoted-printable", "base64", "base64", "BASE64", "hexa", "x-uuencode"])
    )
    if encoding == "quoted-printable":
        data = quopri.encodestring(data).replace(b"\n", eol.encode())
        if draw(st.booleans()):
            data = data.lower()  # lower-case hex digits, as some senders write them
    elif encoding.lower() == "base64":
        width = draw(st.sampled_from([0, 60, 72, 76]))
        flat = binascii.b2a_base64(data, newline=False)
        if width:
            flat = eol.encode().join(flat[at : at + width] for at in range(0, len(flat), width))
        data = draw(
            st.sampled_from(
                [
                    flat,
                    flat + eol.encode(),
                    flat.rstrip(b"="),
                    b" " + flat.replace(b"A", b"A ", 1),
                    flat + b"\n--\nlist footer",
                ]
            )
        )
    kind = "text/html" if is_html else "text/plain"
    parameter = f'; charset="{charset}"' if charset else ""
    extra = draw(st.sampled_from(["", "Content-Disposition: inline" + eol, "Content-Disposition: attachment" + eol]))
    head = f"Content-Type: {kind}{parameter}{eol}Content-Transfer-Encoding: {encoding}{eol}{extra}{eol}"
    return head.encode() + data


_OTHER = st.sampled_from(
    [
        b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + base64.b64encode(b"http://x" * 20),
        b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\nURL:http://cal.example/\nEND:VCALENDAR\n",
        b"Content-Type: text/x-amp-html\n\n<a href='http://amp.example/'>x</a>",
        b"Content-Type: application/pdf; name=x.pdf\n\n%PDF http://pdf.example",
        b"\n\nno header http://none.example/",
        b"Content-Type: multipart/mixed\n\n--b1\n\nhttp://lost.example/",
    ]
)


@st.composite
def messages(draw: st.DrawFn, depth: int = 2) -> bytes:
    """Whole messages: single parts, multiparts and forwarded messages, sometimes cut off."""
    head = (
        b"From: a@b.example\nSubject: =?utf-8?q?x?=\nX-Odd:\xff\xfe\n\tfolded http://head.example/\nMIME-Version: 1.0\n"
    )
    if depth == 0 or draw(st.booleans()):
        raw = head + draw(leaf())
    else:
        boundary = draw(st.sampled_from([b"b1", b"b1--", b"=_x y", b"b2"]))
        inner = st.one_of(
            leaf(), leaf(), _OTHER, messages(depth - 1).map(lambda m: b"Content-Type: message/rfc822\n\n" + m)
        )
        kind = draw(st.sampled_from([b"mixed", b"alternative", b"related", b"digest"]))
        raw = (
            head
            + b"Content-Type: multipart/"
            + kind
            + b'; boundary="'
            + boundary
            + b'"\n\npreamble http://pre.example/\n'
        )
        for piece in draw(st.lists(inner, max_size=4)):
            raw += b"--" + boundary + b"\n" + piece + b"\n"
        raw += draw(
            st.sampled_from([b"--" + boundary + b"--\n", b"--" + boundary + b"--", b"", b"--" + boundary + b"\n"])
        )
        raw += draw(st.sampled_from([b"", b"epilogue http://post.example/\n"]))
    if draw(st.integers(0, 5)) == 0:
        raw = raw[: draw(st.integers(0, len(raw)))]
    return raw
