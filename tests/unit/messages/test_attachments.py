"""Links in attachments, and what was not looked at."""

from __future__ import annotations

import io
import zipfile
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.messages.attachment_tnef import _DICTIONARY, decompressed_rtf
from app.messages.attachments import AttachmentLimits, AttachmentLinks, links


def found(result: AttachmentLinks) -> list[tuple[str, str]]:
    return [(link.url, link.where) for link in result.links]


def urls(result: AttachmentLinks) -> set[str]:
    return {link.url for link in result.links}


def package(parts: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return buffer.getvalue()


def pdf(objects: list[bytes], trailer: bytes = b"") -> bytes:
    made = b"%PDF-1.7\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return made + b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, trailer, start)


def stream(content: bytes, extra: bytes = b"") -> bytes:
    return b"<</Length %d%s>>stream\n%s\nendstream" % (len(content), extra, content)


PDF_PAGE = [
    b"<</Type/Catalog/Pages 2 0 R>>",
    b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F<</Type/Font/Subtype/Type1"
    b"/BaseFont/Helvetica>>>>>>/Annots[<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/A<</S/URI/URI(https://note.example"
    b"/a\\(1\\))>>>>]/AA<</O<</S/URI/URI(https://open.example/)>>>>>>",
    stream(b"BT /F 12 Tf 20 200 Td (see https://text.example/b for more) Tj ET"),
    stream(zlib.compress(b"<</S/URI/URI<68747470733a2f2f6865782e6578616d706c652f>>>"), b"/Filter/FlateDecode"),
]


def test_pdf_links_are_found_in_annotations_text_and_other_actions() -> None:
    result = links("a.pdf", "application/pdf", pdf(PDF_PAGE))
    assert found(result) == [
        ("https://note.example/a(1)", "annotation"),
        ("https://text.example/b", "text"),
        ("https://open.example/", "annotation"),
        ("https://hex.example/", "annotation"),
    ]
    assert (result.kind, result.coverage) == ("PDF document", "full")


def test_what_a_pdf_hides_is_said() -> None:
    scripted = [*PDF_PAGE, b"<</S/JavaScript/JS(x)>>", b"<</Type/EmbeddedFile>>"]
    result = links("", "", pdf(scripted))
    assert result.coverage == "partial"
    assert "scripts in it were not run" in result.notes
    assert "files embedded in it were not looked at" in result.notes


def test_an_encrypted_pdf_is_named_and_not_opened() -> None:
    encrypt = b"/Encrypt<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>/ID[<00><00>]" % (b"11" * 32, b"22" * 32)
    result = links("a.pdf", "", pdf(PDF_PAGE, encrypt))
    assert (result.kind, result.coverage, result.links) == ("encrypted PDF document", "none", ())


def test_pages_beyond_the_limit_are_said() -> None:
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R 3 0 R 3 0 R]/Count 3>>", *PDF_PAGE[2:]]
    result = links("a.pdf", "", pdf(objects), AttachmentLimits(max_pdf_pages=1))
    assert "only the first 1 of 3 pages were looked at" in result.notes


CONTENT_TYPES = "<Types/>"
RELATIONSHIPS = (
    '<?xml version="1.0"?><Relationships><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/hyperlink" '
    'Target="https://rel.example/?a=1&amp;b=2" TargetMode="External"/>'
    "<Relationship TargetMode='External' Target='https://template.example/x.dotm' Id='r2' Type='x/attachedTemplate'/>"
    '<Relationship Id="r3" Target="styles.xml" Type="x/styles"/></Relationships>'
)


def test_word_links_are_found_in_relationships_and_in_fields_split_over_runs() -> None:
    body = (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText xml:space="preserve"> HYPER</w:instrText>'
        "</w:r><w:r><w:instrText>LINK &quot;https://field.exam</w:instrText></w:r><w:r><w:instrText>ple/x&quot; "
        '</w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r><w:fldSimple '
        'w:instr=" HYPERLINK &quot;https://simple.example/&quot; "/><w:t>Go to https://shown.example/now.</w:t></w:p>'
    )
    data = package(
        {"[Content_Types].xml": CONTENT_TYPES, "word/document.xml": body, "word/_rels/document.xml.rels": RELATIONSHIPS}
    )
    result = links("a.docx", "application/octet-stream", data)
    assert set(found(result)) == {
        ("https://rel.example/?a=1&b=2", "hyperlink"),
        ("https://template.example/x.dotm", "external"),
        ("https://field.example/x", "field"),
        ("https://simple.example/", "field"),
        ("https://shown.example/now", "text"),
    }
    assert (result.kind, result.coverage) == ("Office document", "full")


def test_excel_formulas_and_opendocument_links_are_found() -> None:
    sheet = '<c><f>HYPERLINK("https://formula.example/","x")</f></c>'
    data = package({"[Content_Types].xml": CONTENT_TYPES, "xl/worksheets/sheet1.xml": sheet})
    assert found(links("a.xlsx", "", data)) == [("https://formula.example/", "field")]
    data = package({"META-INF/manifest.xml": "", "content.xml": '<text:a xlink:href="https://odf.example/?a&amp;b">x'})
    assert found(links("a.odt", "", data)) == [("https://odf.example/?a&b", "hyperlink")]


def test_what_an_office_file_hides_is_said() -> None:
    data = package({"[Content_Types].xml": CONTENT_TYPES, "word/vbaProject.bin": b"x", "word/embeddings/a.bin": b"x"})
    result = links("a.docm", "", data)
    assert result.coverage == "partial"
    assert set(result.notes) == {"macros in it were not looked at", "files embedded in it were not looked at"}


def test_a_package_that_unpacks_to_too_much_is_not_unpacked() -> None:
    data = package({"[Content_Types].xml": CONTENT_TYPES, "word/document.xml": " " * 5_000_000})
    result = links("a.docx", "", data, AttachmentLimits(max_unpacked=100_000))
    assert "parts that are damaged or unpack to too much were not looked at" in result.notes


def test_parts_beyond_the_limit_are_said() -> None:
    data = package({"[Content_Types].xml": CONTENT_TYPES, **{f"word/{n}.xml": "x" for n in range(9)}})
    assert "only the first 5 parts of 10 were looked at" in links("", "", data, AttachmentLimits(max_members=5)).notes


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (package({"invoice.html": "<a href=https://x.example>"}), "ZIP archive"),
        (b"PK\x03\x04broken", "ZIP archive"),
        (b"Rar!\x1a\x07\x01\x00", "RAR archive"),
        (b"7z\xbc\xaf\x27\x1c\x00", "7z archive"),
        (b"\x1f\x8b\x08\x00", "gzip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "encrypted Office document"),
        (b"\x00\x01\x02\x03", "unknown file"),
        (b"From: a\r\n\r\nhttps://x.example", "message"),
    ],
)
def test_what_is_not_opened_is_named(data: bytes, kind: str) -> None:
    result = links("a.eml" if kind == "message" else "a", "", data)
    assert (result.kind, result.coverage, result.links) == (kind, "none", ())
    assert result.notes


def test_an_encrypted_archive_is_said_to_be_encrypted() -> None:
    data = bytearray(package({"a.txt": "x"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    assert links("a.zip", "", bytes(data)).notes == ("the archive is encrypted and was not opened",)


def test_old_office_files_give_the_addresses_that_stand_in_them_unbroken() -> None:
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 40 + b"http://narrow.example/a\x00\x01"
    data += "https://wide.example/b".encode("utf-16-le") + b"\x00\x00" + b"http://schemas.microsoft.com/x\x00"
    result = links("a.doc", "application/msword", data)
    assert urls(result) == {"http://narrow.example/a", "https://wide.example/b"}
    assert (result.kind, result.coverage) == ("old Office document", "partial")


def test_rtf_links_are_found_in_fields_and_text() -> None:
    data = (
        rb"{\rtf1\ansi{\field{\*\fldinst{HYPERLINK \\l "
        rb'"https://fi\'65ld.example/x"}}{\fldrslt{click}}}\par Visit https://text.exam{\b ple}/y.\par'
        rb"{\*\template http://template.example/t.dot}\u246?\bin5 {{{{{ ok}"
    )
    result = links("a.doc", "application/msword", data)
    assert {"https://field.example/x", "https://text.example/y", "http://template.example/t.dot"} <= urls(result)
    assert (result.kind, result.coverage) == ("RTF document", "full")


def test_html_attachments_are_read_as_browsers_read_them() -> None:
    data = (
        b"<base href='https://base.example/d/'><a href=x.html>x</a><AREA HREF='//net.example/'>"
        b"<form action='https://form.example/'><button formaction=https://button.example/></form>"
        b"<iframe src=https://frame.example/></iframe>"
        b"<meta http-equiv=Refresh content='0; URL=&quot;https://refresh.example/&quot;'>"
        b"<svg><a xlink:href='https://svg.example/'/></svg><a href='mailto:a@b.example'>m</a><a href='#top'>t</a>"
        b"<a href='javascript:alert(1)'>j</a>"
    )
    result = links("a.htm", "", data)
    assert set(found(result)) == {
        ("https://base.example/d/x.html", "hyperlink"),
        ("https://net.example/", "hyperlink"),
        ("https://form.example/", "form"),
        ("https://button.example/", "form"),
        ("https://frame.example/", "frame"),
        ("https://refresh.example/", "external"),
        ("https://svg.example/", "hyperlink"),
        ("javascript:alert(1)", "hyperlink"),
    }
    assert result.coverage == "full"


def test_scripts_in_html_are_said_not_to_be_run() -> None:
    result = links("invoice.html", "application/octet-stream", b"<html><script>location='https://x.example'</script>")
    assert result.coverage == "partial"
    assert any("scripts" in note for note in result.notes)


def test_svg_attachments_give_their_links() -> None:
    data = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg">'
        b'<a xlink:href="https://one.example/"><rect/></a><script href="https://two.example/x.js"/></svg>'
    )
    result = links("a.svg", "image/svg+xml", data)
    assert urls(result) == {"https://one.example/", "https://two.example/x.js"}
    assert (result.kind, result.coverage) == ("SVG drawing", "partial")
    prefixed = b'<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:a href="https://three.example/">x</s:a></s:svg>'
    assert "https://three.example/" in urls(links("a.svg", "", prefixed))


def test_calendar_links_are_found_in_folded_and_escaped_properties() -> None:
    data = (
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nURL;VALUE=URI:https://url.example/a\r\n"
        b'DESCRIPTION;ALTREP="https://alt.example/b":Join https://desc.exam\r\n ple/c\\, or not\\nNext\r\n'
        b'X-ALT-DESC;FMTTYPE=text/html:<html><a href="https://html.example/d">x\\, y</a></html>\r\n'
        b"X-MICROSOFT-SKYPETEAMSMEETINGURL:https://teams.example/e\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    result = links("invite.ics", "text/calendar", data)
    assert urls(result) == {
        "https://url.example/a",
        "https://alt.example/b",
        "https://desc.example/c",
        "https://html.example/d",
        "https://teams.example/e",
    }
    assert (result.kind, result.coverage) == ("calendar", "full")


def test_shortcuts_and_text_give_their_addresses() -> None:
    assert urls(links("a.url", "", b"[InternetShortcut]\r\nURL=https://short.example/x\r\n")) == {
        "https://short.example/x"
    }
    plist = (
        b'<?xml version="1.0"?><!DOCTYPE plist PUBLIC "-" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">'
        b"<plist><dict><key>URL</key><string>https://mac.example/</string></dict></plist>"
    )
    assert urls(links("a.webloc", "", plist)) == {"https://mac.example/"}
    result = links("a.csv", "text/csv", "x;(https://one.example/a(b)), www.two.example.\n".encode("utf-16"))
    assert urls(result) == {"https://one.example/a(b)", "www.two.example"}
    assert links("a.ps1", "", b"iwr https://three.example/x.exe").coverage == "partial"


def tnef(attributes: list[tuple[int, int, bytes]]) -> bytes:
    made = b"\x78\x9f\x3e\x22\x01\x00"
    for level, identifier, body in attributes:
        made += bytes([level]) + identifier.to_bytes(4, "little") + len(body).to_bytes(4, "little") + body
        made += (sum(body) & 0xFFFF).to_bytes(2, "little")
    return made


def properties(values: list[tuple[int, int, bytes]]) -> bytes:
    made = len(values).to_bytes(4, "little")
    for kind, identifier, value in values:
        made += kind.to_bytes(2, "little") + identifier.to_bytes(2, "little")
        if kind in (0x1E, 0x1F, 0x102):
            made += (1).to_bytes(4, "little") + len(value).to_bytes(4, "little") + value + b"\x00" * (-len(value) % 4)
        else:
            made += value
    return made


def test_winmail_dat_gives_the_links_of_its_body_and_of_the_files_inside() -> None:
    inner = package({"[Content_Types].xml": CONTENT_TYPES, "word/_rels/document.xml.rels": RELATIONSHIPS})
    body = properties(
        [
            (0x03, 0x0037, b"\x01\x00\x00\x00"),
            (0x102, 0x1013, b'<a href="https://html.example/">x</a>'),
            (0x1F, 0x1000, "see https://plain.example/".encode("utf-16-le")),
        ]
    )
    name = properties([(0x1F, 0x3707, "long name.docx\x00".encode("utf-16-le"))])
    data = tnef(
        [
            (1, 0x00069003, body),
            (2, 0x00069002, b"\x00" * 14),
            (2, 0x00018010, b"LONGNA~1.DOC\x00"),
            (2, 0x0006800F, inner),
            (2, 0x00069005, name),
            (2, 0x00069002, b"\x00" * 14),
            (2, 0x00018010, b"a.zip\x00"),
            (2, 0x0006800F, package({"x": "y"})),
        ]
    )
    result = links("winmail.dat", "application/ms-tnef", data)
    assert {"https://html.example/", "https://plain.example/", "https://rel.example/?a=1&b=2"} <= urls(result)
    assert [link.inside for link in result.links if "rel.example" in link.url] == ["long name.docx"]
    assert result.kind == "winmail.dat (TNEF)"
    assert result.notes == ("a.zip: the archive with 1 files was not opened",)


def test_winmail_dat_that_is_cut_off_gives_what_is_there_and_says_so() -> None:
    data = tnef([(1, 0x0002800C, b"https://body.example/"), (2, 0x00069002, b"\x00" * 14)])
    result = links("winmail.dat", "", data[:-9])
    assert urls(result) == {"https://body.example/"}
    assert "the file is cut off or damaged; the rest was not looked at" in result.notes


def test_compressed_rtf_is_unpacked_with_references_into_what_was_written() -> None:
    literal = b"https://rtf.example/"
    packed = b"".join(b"\x00" + literal[i : i + 8] for i in range(0, len(literal), 8))
    reference = ((len(_DICTIONARY) << 4) | (len(literal) - 2 & 15)).to_bytes(2, "big")
    # Twenty literals in runs of eight, eight and four; in the last run the fifth item is a reference.
    packed = b"\x00" + literal[:8] + b"\x00" + literal[8:16] + b"\x10" + literal[16:20] + reference
    data = (len(packed) + 12).to_bytes(4, "little") + (22).to_bytes(4, "little") + b"LZFu" + b"\x00" * 4 + packed
    assert decompressed_rtf(data) == literal + literal[:4]
    assert decompressed_rtf(b"short") is None
    body = properties([(0x102, 0x1009, data)])
    assert "https://rtf.example/http" in urls(links("", "", tnef([(1, 0x00069003, body)])))


def test_nesting_is_followed_to_the_cap() -> None:
    data = tnef([(1, 0x0002800C, b"https://deep.example/")])
    for _ in range(4):
        data = tnef([(2, 0x00069002, b""), (2, 0x00018010, b"winmail.dat\x00"), (2, 0x0006800F, data)])
    result = links("winmail.dat", "", data)
    assert result.links == ()
    assert any("too deep" in note for note in result.notes)


def test_too_large_and_empty_files_are_said() -> None:
    assert links("a.pdf", "", b"%PDF-" + b"x" * 100, AttachmentLimits(max_bytes=50)).coverage == "none"
    assert links("a.pdf", "application/pdf", b"") == AttachmentLinks("empty file")


def test_links_beyond_the_limit_are_said() -> None:
    data = " ".join(f"https://{n}.example/" for n in range(30)).encode()
    result = links("a.txt", "text/plain", data, AttachmentLimits(max_links=10))
    assert len(result.links) == 10
    assert result.notes == ("only the first 10 links were collected",)


STARTS = [
    b"",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"{\\rtf1 ",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"\x78\x9f\x3e\x22\x01\x00",
    b"BEGIN:VCALENDAR\n",
    b"[InternetShortcut]\n",
    b"<html>",
    b"<svg>",
    pdf(PDF_PAGE),
    tnef([(1, 0x00069003, b"\x09")]),
    package({"[Content_Types].xml": "<a>"}),
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(STARTS),
    st.binary(max_size=300),
    st.sampled_from(["", "a.html", "a.svg", "a.ics", "a.url", "a"]),
    st.sampled_from(["", "text/html", "text/plain", "image/png", "x"]),
    st.integers(0, 400),
)
@example(b"", b"\xff\xfe<", "a.html", "", 0)
def test_no_input_raises(start: bytes, rest: bytes, name: str, content_type: str, cut: int) -> None:
    for data in (start + rest, start[:cut] + rest, rest + start):
        result = links(name, content_type, data)
        assert result.coverage in ("full", "partial", "none")
        assert result.coverage == "full" or result.notes
