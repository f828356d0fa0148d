"""Codes drawn without a picture: SVG, table cells, characters."""

from __future__ import annotations

import base64
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pytest
import zxingcpp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.messages.qr import QrLimits, blocks, html_blocks, svg, svg_paths
from app.messages.qr.colors import background, brightness, declarations
from tests.unit.messages import qr_pictures as pictures
from tests.unit.messages.qr_pictures import TEXT

MODULES = pictures.modules()
SIDE = len(MODULES)
DARK = [(int(x), int(y)) for y, x in np.argwhere(MODULES)]
OPEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'viewBox="-4 -4 {SIDE + 8} {SIDE + 8}">'
)

DRAWINGS = {
    "rectangles in a group": OPEN
    + '<rect x="-4" y="-4" width="100%" height="100%" fill="#fff"/><g transform="translate(1 2) scale(.5)">'
    + "".join(f'<rect x="{2 * x - 2}" y="{2 * y - 4}" width="2" height="2"/>' for x, y in DARK)
    + "</g></svg>",
    "one path": OPEN + '<path fill="#123" d="' + "".join(f"M{x},{y}h1v1h-1z" for x, y in DARK) + '"/></svg>',
    "one path with absolute lines": OPEN
    + '<path d="'
    + " ".join(f"M{x} {y}L{x + 1} {y} {x + 1} {y + 1} {x} {y + 1}Z" for x, y in DARK)
    + '"/></svg>',
    "a stroke": OPEN
    + '<path fill="none" stroke="black" d="'
    + "".join(f"M{x} {y + 0.5}h1" for x, y in DARK)
    + '"/></svg>',
    "lines": OPEN
    + '<g stroke="#000" stroke-width="1">'
    + "".join(f'<line x1="{x}" y1="{y + 0.5}" x2="{x + 1}" y2="{y + 0.5}"/>' for x, y in DARK)
    + "</g></svg>",
    "polygons": OPEN
    + "".join(f'<polygon points="{x},{y} {x + 1},{y} {x + 1},{y + 1} {x},{y + 1}"/>' for x, y in DARK)
    + "</svg>",
    "repeated by use": OPEN
    + '<defs><rect id="m" width="1" height="1"/></defs>'
    + "".join(f'<use xlink:href="#m" x="{x}" y="{y}"/>' for x, y in DARK)
    + "</svg>",
    "colored by a style sheet": OPEN
    + "<style>.d{fill:#111}.l{fill:#eee}</style>"
    + "".join(
        f'<rect class="{"d" if MODULES[y, x] else "l"}" x="{x}" y="{y}" width="1" height="1"/>'
        for y in range(SIDE)
        for x in range(SIDE)
    )
    + "</svg>",
    "colored by style attributes": OPEN
    + "".join(f'<rect style="fill:rgb(10,20,30);stroke:none" x="{x}" y="{y}" width="1" height="1"/>' for x, y in DARK)
    + "</svg>",
    "circles": OPEN + "".join(f'<circle cx="{x + 0.5}" cy="{y + 0.5}" r=".5"/>' for x, y in DARK) + "</svg>",
    "arcs": OPEN
    + '<path d="'
    + "".join(f"M{x} {y + 0.5}a.5.5 0 1 1 1 0a.5.5 0 1 1-1 0z" for x, y in DARK)
    + '"/></svg>',
    "no size at all": '<svg xmlns="http://www.w3.org/2000/svg">'
    + "".join(f'<rect x="{9 * x}" y="{9 * y}" width="9" height="9"/>' for x, y in DARK)
    + "</svg>",
    "light on dark": OPEN
    + '<rect x="-4" y="-4" width="100%" height="100%"/><g fill="#fff">'
    + "".join(f'<rect x="{x}" y="{y}" width="1" height="1"/>' for x, y in DARK)
    + "</g></svg>",
    "by zxing-cpp": zxingcpp.create_barcode(TEXT, zxingcpp.BarcodeFormat.QRCode).to_svg(),
}


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_a_code_drawn_in_svg_is_found(drawing: str) -> None:
    assert [code.text for code in svg.find(DRAWINGS[drawing].encode())] == [TEXT]


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp"])
def test_a_picture_inside_svg_is_read(extension: str) -> None:
    data = base64.b64encode(pictures.file(pictures.picture(), extension)).decode()
    for name in ("href", "xlink:href"):
        source = f'{OPEN}<image {name}="data:image/x;base64,{data[:40]}\n{data[40:]}" width="9" height="9"/></svg>'
        assert [code.text for code in svg.find(source.encode())] == [TEXT]


def test_what_is_not_shown_is_not_drawn() -> None:
    hidden = DRAWINGS["rectangles in a group"].replace("<g ", '<g display="none" ')
    assert svg.find(hidden.encode()) == ()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "<svg",
        "no xml",
        "<svg/>",
        OPEN + "</svg>",
        OPEN + "<g>" * 5_000,
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;&b;</svg>',
        OPEN + '<rect x="1e999" width="1e400" height="5"/><path d="M1e308 1e308L1e308 5 5 1e308z"/></svg>',
        OPEN + '<g id="a"><use href="#a"/></g></svg>',
        OPEN
        + '<path d="M0 0 L"/><path d="5 5"/><path d="A1 1 0 0 0 1 1"/><path d="M0 0A1 1 0 1"/><rect width="x"/></svg>',
        OPEN + '<image href="data:image/png;base64,%%%"/><image href="https://x.example/a.png"/></svg>',
    ],
)
def test_odd_drawings_give_nothing_and_do_not_raise(source: str) -> None:
    assert svg.find(source.encode()) == ()


def test_drawings_that_are_too_much_are_said() -> None:
    loop = OPEN + '<g id="a"><use href="#b"/><use href="#b"/></g><g id="b"><use href="#a"/><use href="#a"/></g></svg>'
    limits = QrLimits(max_elements=500)
    for source in (loop, OPEN + '<rect width="1" height="1"/>' * 600 + "</svg>"):
        notes = svg.scan_svg(source.encode(), limits).notes
        assert notes == ("the drawing has too many shapes; the rest was not looked at",)
    assert "larger" in svg.scan_svg(b"<svg/>" * 100, QrLimits(max_bytes=50)).notes[0]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="MmLlHhVvZzCcSsQqTtAa 0123456789.,-+e", max_size=120))
@example("M0 0a1 1 0 11 2 0")
def test_no_path_data_raises(data: str) -> None:
    for polygon, _ in svg_paths.path_polygons(data, 1_000):
        assert polygon


def test_curves_and_arcs_end_where_they_should() -> None:
    curve, closed = svg_paths.path_polygons("M0 0C0 10 10 10 10 0s10-10 10 0q5 5 10 0t10 0H50V5z", 1_000)[0]
    assert closed
    assert curve[-1] == pytest.approx((50, 5))
    arc = svg_paths.path_polygons("M0 0a5 5 0 0110 0", 1_000)[0][0]
    assert arc[-1] == pytest.approx((10, 0))
    assert max(abs(y) for _, y in arc) == pytest.approx(5, abs=0.2)


# -- characters ----------------------------------------------------------------------------------------

HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
QUARTERS = dict(
    zip([(a, b, c, d) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)], " ▗▖▄▝▐▞▟▘▚▌▙▀▜▛█", strict=True)
)


def even(cells: npt.NDArray[np.bool_], down: int, across: int) -> npt.NDArray[np.int_]:
    height, width = cells.shape
    return np.pad(cells, ((0, -height % down), (0, -width % across))).astype(int)


def in_halves(cells: npt.NDArray[np.bool_]) -> str:
    whole = even(cells, 2, 1)
    return "\n".join(
        "".join(HALVES[int(a), int(b)] for a, b in zip(whole[y], whole[y + 1], strict=True))
        for y in range(0, len(whole), 2)
    )


def in_quarters(cells: npt.NDArray[np.bool_]) -> str:
    whole = even(cells, 2, 2)
    return "\n".join(
        "".join(
            QUARTERS[whole[y, x], whole[y, x + 1], whole[y + 1, x], whole[y + 1, x + 1]]
            for x in range(0, whole.shape[1], 2)
        )
        for y in range(0, len(whole), 2)
    )


def in_braille(cells: npt.NDArray[np.bool_]) -> str:
    whole = even(cells, 4, 2)
    places = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]
    return "\n".join(
        "".join(
            chr(0x2800 + sum(int(whole[y + dy, x + dx]) << bit for bit, (dy, dx) in enumerate(places)))
            for x in range(0, whole.shape[1], 2)
        )
        for y in range(0, len(whole), 4)
    )


def in_pairs(dark: str, light: str) -> str:
    return "\n".join("".join(dark if module else light for module in row) for row in MODULES)


TEXTS = {
    "two full blocks a module": in_pairs("██", "  "),
    "one full block a module": in_pairs("█", " "),
    "no-break spaces": in_pairs("██", "\u00a0\u00a0"),
    "squares": in_pairs("⬛", "⬜"),
    "squares with variation selectors": in_pairs("⬛\ufe0f", "⬜\ufe0f"),
    "half blocks": in_halves(MODULES),
    "half blocks, light on dark": in_halves(~np.pad(MODULES, 2)),
    "quarter blocks": in_quarters(MODULES),
    "braille": in_braille(MODULES),
    "double spaced": in_pairs("██", "  ").replace("\n", "\n\n"),
    "indented": "    " + in_halves(MODULES).replace("\n", "\n    "),
}


@pytest.mark.parametrize("drawing", TEXTS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_code_of_characters_is_found_in_text(drawing: str, ends: str) -> None:
    text = ("Scan this:\n\n" + TEXTS[drawing] + "\n\nBest regards\n").replace("\n", ends)
    (code,) = blocks.find_in_text(text)
    assert (code.text, code.kind) == (TEXT, "characters")
    assert text[code.start : code.end].strip("\r\n") == TEXTS[drawing].replace("\n", ends).strip("\r\n")


def test_two_codes_in_one_text_are_found_in_order() -> None:
    other = in_halves(pictures.modules("https://other.example/"))
    codes = blocks.find_in_text(f"one\n{TEXTS['half blocks']}\ntwo\n{other}\n")
    assert [code.text for code in codes] == [TEXT, "https://other.example/"]
    assert codes[0].end <= codes[1].start


@pytest.mark.parametrize(
    "text",
    ["", "plain", "█" * 39, "█ " * 50_000, "█▄\n" * 2_000, "█████ 80 %\n" * 30, "\n" * 5_000, "⬛" * 200 + "\n" + "⬛"],
)
def test_block_characters_that_are_no_code_give_nothing(text: str) -> None:
    assert blocks.find_in_text(text) == ()


PAGES = {
    "preformatted": "<p>Scan</p><pre style='line-height:1'>" + TEXTS["half blocks"] + "</pre>",
    "lines with br": "<div style='font-family:monospace'>"
    + TEXTS["half blocks"].replace(" ", "&nbsp;").replace("\n", "<br>\n  ")
    + "</div>",
    "a div a line": "".join(f"<div>{line.replace(' ', '&nbsp;')}</div>" for line in TEXTS["half blocks"].split("\n")),
    "references": "<pre>" + "".join(f"&#{ord(c)};" if ord(c) > 127 else c for c in TEXTS["half blocks"]) + "</pre>",
    "spans": "<pre>" + TEXTS["half blocks"].replace("▀", "<span>▀</span>") + "</pre>",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_code_of_characters_is_found_in_html(page: str) -> None:
    source = "<html><body>Hi" + PAGES[page] + "<p>Bye</p></body></html>"
    (code,) = html_blocks.find_in_html(source)
    assert (code.text, code.kind) == (TEXT, "characters")
    assert source[code.start : code.end].startswith(("<pre", "<body"))


def runs(row: npt.NDArray[np.bool_]) -> list[tuple[bool, int]]:
    return [(bool(dark), len(list(group))) for dark, group in groupby(row)]


def rows(cell: str, light: str) -> str:
    return "".join("<tr>" + "".join(cell if module else light for module in row) + "</tr>" for row in MODULES)


TABLES = {
    "bgcolor": "<table>" + rows("<td bgcolor=#000000 width=4 height=4>", "<td bgcolor=#ffffff>") + "</table>",
    "style": "<table style='background:#fff'>"
    + rows("<td style='background-color: rgb(0, 0, 20)'>", "<td>")
    + "</table>",
    "light cells on a dark table": "<table bgcolor=black>"
    + rows("<td>", "<td style='background: white none'>")
    + "</table>",
    "elements inside cells": "<table>"
    + rows("<td><div style='background:navy'>&nbsp;</div></td>", "<td></td>")
    + "</table>",
    "blocks inside cells": "<table>" + rows("<td>█</td>", "<td>&nbsp;</td>") + "</table>",
    "column spans": "<table>"
    + "".join(
        "<tr>" + "".join(f"<td colspan={n} bgcolor={'#111' if dark else '#eee'}>" for dark, n in runs(row)) + "</tr>"
        for row in MODULES
    )
    + "</table>",
    "widths": "<table>"
    + "".join(
        "<tr>"
        + "".join(
            f"<td style='width:{n * 5}px;height:5px;background:{'black' if dark else 'white'}'>"
            for dark, n in runs(row)
        )
        + "</tr>"
        for row in MODULES
    )
    + "</table>",
    "nested in a layout": "<table><tbody><tr><td>x</td><td><table><tbody>"
    + rows("<td bgcolor=black>", "<td>")
    + "</tbody></table></td></tr></table>",
}


@pytest.mark.parametrize("table", TABLES)
def test_a_code_of_table_cells_is_found(table: str) -> None:
    source = "<body><p>Scan</p>" + TABLES[table] + "<p>Bye</p>"
    (code,) = html_blocks.find_in_html(source)
    assert (code.text, code.kind) == (TEXT, "table")
    assert source[code.start :].startswith("<table")
    assert source[code.start : code.end].endswith("</table>")


def test_ordinary_tables_give_nothing() -> None:
    layout = "<table>" + "<tr><td bgcolor=#eee>Item</td><td>Price</td></tr>" * 200 + "</table>"
    board = "<table>" + ("<tr>" + "<td bgcolor=black></td><td></td>" * 20 + "</tr>") * 40 + "</table>"
    wide = "<table><tr>" + "<td bgcolor=black></td><td></td>" * 3_000 + "</tr></table>"
    for source in (layout, board, wide, "<table>" * 2_000 + "<td>" * 2_000, ""):
        assert html_blocks.find_in_html(source) == ()


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="█▀▄ \n⬛⠿<td>/rpe&nbs;", max_size=400))
def test_no_text_raises(text: str) -> None:
    blocks.find_in_text("█" * 50 + text)
    html_blocks.find_in_html("<td>" * 40 + "█" * 50 + text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("#000", 0),
        ("#fff", 255),
        ("000000", 0),
        ("BLACK", 0),
        ("rgb(255,255,255)", 255),
        ("rgba(0,0,0,0)", None),
        ("rgb(0 0 0 / 50%)", 0),
        ("hsl(0,0%,100%)", 255),
        ("transparent", None),
        ("#12345", None),
        ("url(#a)", 0),
        ("white !important", 255),
        ("", None),
        ("rgb(.,.,.)", None),
        ("#0000", None),
        ("#80808080", 128),
    ],
)
def test_colors_are_read_as_brightness(value: str, expected: int | None) -> None:
    assert brightness(value) == expected


def test_backgrounds_are_read_from_declarations() -> None:
    assert background(declarations("color:red; BACKGROUND: #000 url(x.png) no-repeat")) == 0
    assert background(declarations("background: no-repeat")) is None
    assert background({}) is None
