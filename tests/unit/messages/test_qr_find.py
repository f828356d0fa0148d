"""Codes in pictures are found, within limits."""

from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np
import pytest
import zxingcpp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.messages import qr
from app.messages.qr import patterns
from app.messages.qr.crowds import is_crowded
from app.messages.qr.finder import CROWDED
from app.messages.qr.headers import read_header
from tests.unit.messages import qr_pictures as pictures
from tests.unit.messages.qr_pictures import EXTENSIONS, TEXT


def texts(data: bytes) -> list[str]:
    return [code.text for code in qr.find(data)]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_code_is_found_in_every_format_with_its_outer_corners(extension: str) -> None:
    part = pictures.picture(scale=5, quiet=0)
    data = pictures.file(pictures.on_canvas(400, 300, (part, 100, 60)), extension)
    (code,) = qr.find(data)
    side = part.shape[0]
    assert code.text == TEXT
    expected = ((100, 60), (100 + side, 60), (100 + side, 60 + side), (100, 60 + side))
    for got, wanted in zip(code.corners, expected, strict=True):
        assert got == pytest.approx(wanted, abs=2.5)


@pytest.mark.parametrize(
    "image",
    [
        pictures.turned(pictures.picture(), 33),
        pictures.turned(pictures.picture(), 180),
        np.rot90(pictures.picture()).copy(),
        pictures.picture()[:, ::-1].copy(),
        255 - pictures.picture(),
        pictures.foreshortened(pictures.picture()),
        (pictures.picture() // 16 + 120).astype(np.uint8),
        np.asarray(cv2.GaussianBlur(pictures.picture(), (0, 0), 2.5), np.uint8),
        pictures.picture(scale=1),
        pictures.picture(scale=2, quiet=1),
        pictures.color(pictures.picture(), (0, 0, 200), (0, 102, 0)),
        pictures.color(pictures.picture(), (120, 0, 120), (0, 220, 240)),
    ],
    ids=[
        "turned",
        "upside down",
        "right angle",
        "mirrored",
        "inverted",
        "foreshortened",
        "low contrast",
        "blurred",
        "one pixel",
        "no quiet zone",
        "colors of one brightness",
        "colored",
    ],
)
def test_a_code_is_found_however_it_is_drawn(image: pictures.Picture) -> None:
    assert texts(pictures.file(image)) == [TEXT]


def test_a_logo_in_the_middle_does_not_hide_a_code() -> None:
    image = pictures.picture(level="H", scale=8)
    middle = image.shape[0] // 2
    image[middle - 25 : middle + 25, middle - 25 : middle + 25] = 128
    assert texts(pictures.file(image)) == [TEXT]


def test_all_codes_of_a_picture_are_found_in_reading_order() -> None:
    wanted = [f"https://{name}.example/" for name in "abcdef"]
    parts = [
        (pictures.picture(text, scale=4), 20 + 200 * (n % 3), 20 + 200 * (n // 3)) for n, text in enumerate(wanted)
    ]
    assert texts(pictures.file(pictures.on_canvas(640, 420, *parts), ".jpg")) == wanted


def test_a_code_that_only_one_channel_shows_is_found_beside_a_plain_one() -> None:
    plain = pictures.color(pictures.picture("https://plain.example/"), (0, 0, 0), (255, 255, 255))
    hidden = pictures.color(pictures.picture("https://hidden.example/"), (0, 0, 200), (0, 102, 0))
    height = max(plain.shape[0], hidden.shape[0])
    canvas = np.full((height, plain.shape[1] + hidden.shape[1] + 20, 3), 255, np.uint8)
    canvas[: plain.shape[0], : plain.shape[1]] = plain
    canvas[: hidden.shape[0], plain.shape[1] + 20 :] = hidden
    assert set(texts(pictures.file(canvas))) == {"https://plain.example/", "https://hidden.example/"}


@pytest.mark.parametrize(("shade", "holes"), [(0, False), (255, False), (255, True), (0, True)])
def test_codes_drawn_with_transparency_are_found(shade: int, holes: bool) -> None:
    gray = pictures.picture()
    image = np.zeros((*gray.shape, 4), np.uint8)
    image[(gray >= 128) if holes else (gray < 128)] = (shade, shade, shade, 255)
    assert texts(pictures.file(image)) == [TEXT]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_codes_of_pictures_with_an_orientation_are_found_in_stored_pixels(orientation: int) -> None:
    part = pictures.picture(scale=4, quiet=0)
    data = pictures.jpeg_with_orientation(pictures.on_canvas(400, 260, (part, 30, 50)), orientation)
    (code,) = qr.find(data)
    assert code.text == TEXT
    assert code.box[:2] == pytest.approx((30, 50), abs=3)


@pytest.mark.parametrize("extension", [".gif", ".webp", ".png"])
def test_every_picture_of_an_animation_is_read(extension: str) -> None:
    blank = np.full((300, 300), 255, np.uint8)
    late = pictures.on_canvas(300, 300, (pictures.picture(scale=4), 40, 40))
    marked = blank.copy()
    marked[:9, :9] = 0  # encoders merge pictures that are the same
    codes = qr.find(pictures.animation([blank, marked, late], extension))
    assert [(code.text, code.frame) for code in codes] == [(TEXT, 2)]


def test_pictures_of_an_animation_beyond_the_limit_are_said() -> None:
    frames = [np.full((60, 60), shade, np.uint8) for shade in (0, 60, 120, 180, 240)]
    scan = qr.scan(pictures.animation(frames), qr.QrLimits(max_frames=3))
    assert scan.notes == ("only the first 3 pictures of the animation were read",)
    assert not scan.covered


def test_a_code_that_stays_through_an_animation_is_given_once() -> None:
    frame = pictures.on_canvas(300, 300, (pictures.picture(scale=4), 40, 40))
    other = frame.copy()
    other[:20, :20] = 0
    assert texts(pictures.animation([frame, other, frame])) == [TEXT]


@pytest.mark.parametrize("width_and_height", [(50_000, 50_000), (40_000, 4), (7_000, 7_000)])
def test_too_many_pixels_are_refused_from_the_header(
    width_and_height: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", fail)
    scan = qr.scan(pictures.png_bomb(*width_and_height))
    assert scan.codes == ()
    assert "too many pixels" in scan.notes[0]


def test_large_files_are_refused() -> None:
    scan = qr.scan(pictures.file(pictures.picture()), qr.QrLimits(max_bytes=100))
    assert scan.notes == ("the image is larger than 100 bytes",)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp"])
def test_a_code_in_the_part_that_arrived_of_a_cut_off_picture_is_found(extension: str) -> None:
    image = pictures.on_canvas(300, 900, (pictures.picture(scale=4), 40, 40))
    image[400:] = np.random.default_rng(5).integers(0, 255, (500, 300), np.uint8)
    data = pictures.file(image, extension)
    scan = qr.scan(data[: len(data) * (9 if extension == ".bmp" else 6) // 10])
    if extension == ".bmp":  # stored from the bottom up: the code is at the end of the file
        scan = qr.scan(pictures.file(image[::-1].copy(), extension)[: len(data) * 6 // 10])
    assert [code.text for code in scan.codes] == [TEXT]
    assert scan.notes == ("the image is cut off or damaged",)


def test_an_interlaced_picture_that_is_cut_off_is_completed() -> None:
    from app.messages.qr.repair import _raw_size

    assert _raw_size(8, 8, 8, adam7=True) == 64 + 15
    assert _raw_size(1, 1, 1, adam7=True) == 2
    assert _raw_size(3, 2, 24, adam7=False) == 20


@pytest.mark.parametrize("extension", [".gif", ".webp"])
def test_what_cannot_be_completed_is_said(extension: str) -> None:
    data = pictures.file(pictures.picture(), extension)
    assert qr.scan(data[: len(data) // 2]).notes == ("the image is cut off or damaged",)


@pytest.mark.parametrize(
    "data", [b"", b"text", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF0000WEBP"]
)
def test_what_is_no_picture_is_said(data: bytes) -> None:
    scan = qr.scan(data)
    assert scan.codes == ()
    assert scan.notes == ("not a PNG, JPEG, GIF, WebP or BMP image",)


def test_pictures_without_codes_give_none() -> None:
    generator = np.random.default_rng(11)
    noise = generator.integers(0, 255, (150, 150, 3), np.uint8)
    lines = np.full((300, 400), 255, np.uint8)
    for row in range(20, 300, 18):
        cv2.putText(lines, "Dear customer, thank you for your order", (5, row), 0, 0.5, 0, 1, cv2.LINE_AA)
    for image in (noise, lines, np.full((200, 200), 90, np.uint8), np.zeros((5, 5), np.uint8)):
        assert texts(pictures.file(image)) == []
    assert not patterns.looks_like_codes(np.full((300, 300), 90, np.uint8))
    assert patterns.looks_like_codes(pictures.picture())


def test_a_picture_made_of_finder_patterns_is_not_given_to_the_searches_that_it_would_keep_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = np.pad(np.pad(np.pad(np.zeros((3, 3), np.uint8), 1, constant_values=1), 1), 1, constant_values=1)
    image = np.tile(np.kron(ring * 255, np.ones((3, 3), np.uint8)), (20, 20)).astype(np.uint8)
    assert patterns.pattern_places(image) > 300

    def fail(*_: object) -> None:
        raise AssertionError("given to OpenCV")

    monkeypatch.setattr(cv2, "QRCodeDetector", fail)
    monkeypatch.setattr(cv2, "QRCodeDetectorAruco", fail)
    assert texts(pictures.file(image)) == []


def _crowd(side: int) -> pictures.Picture:
    ring = np.pad(np.pad(np.pad(np.zeros((3, 3), np.uint8), 1, constant_values=1), 1), 1, constant_values=1)
    return np.tile(ring * 255, (side // 9 + 1, side // 9 + 1))[:side, :side].astype(np.uint8)


def test_a_picture_of_thousands_of_finder_patterns_is_never_given_to_a_decoder_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[int] = []
    read = zxingcpp.read_barcodes

    def reading(plane: pictures.Picture, **options: Any) -> object:
        given.append(plane.size)
        return read(plane, **options)

    monkeypatch.setattr(zxingcpp, "read_barcodes", reading)
    scan = qr.scan(pictures.file(_crowd(1500)))
    assert scan.codes == ()
    assert scan.notes == (CROWDED,)
    assert given
    assert max(given) <= 1_000_000


def test_a_code_among_thousands_of_finder_patterns_is_found_and_what_was_not_looked_at_is_said() -> None:
    image = _crowd(1500)
    part = pictures.picture(scale=12)
    image[200 : 200 + part.shape[0], 200 : 200 + part.shape[1]] = part
    scan = qr.scan(pictures.file(image))
    assert [code.text for code in scan.codes] == [TEXT]
    assert scan.notes == (CROWDED,)
    assert scan.codes[0].box[0] == pytest.approx(200, abs=60)


def test_noise_is_no_crowd_of_finder_patterns() -> None:
    noise = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (1000, 1000))
    assert not is_crowded(noise)
    assert is_crowded(_crowd(1000))
    assert is_crowded((_crowd(1000) // 16 + np.linspace(0, 200, 1000).astype(np.uint8)[None]).astype(np.uint8))


def test_the_pixels_of_all_pictures_of_an_animation_count() -> None:
    still = pictures.on_canvas(60, 50, (pictures.picture(scale=1), 5, 5))
    assert qr.pixels(pictures.file(still)) == 3000
    assert qr.pixels(pictures.animation([still, still[::-1].copy()])) == 30_000
    assert qr.pixels(b"no picture") == 0


def test_at_most_the_allowed_number_of_codes_is_given() -> None:
    parts = [(pictures.picture(f"https://{n}.example/", scale=3), 120 * n, 10) for n in range(4)]
    data = pictures.file(pictures.on_canvas(520, 130, *parts))
    assert len(qr.find(data, qr.QrLimits(max_codes=2))) == 2


def test_whatever_opencv_or_zxing_reads_of_spoilt_pictures_is_found() -> None:
    generator = np.random.default_rng(42)
    choice = random.Random(42)
    read = 0
    for _ in range(25):
        low = choice.choice([0, 60, 110])
        contrast = choice.choice([25, 80, 255 - low]) / 255
        drawn = (low + pictures.picture(scale=choice.choice([3, 4, 6])) * contrast).astype(np.uint8)
        spoilt = pictures.turned(drawn, choice.uniform(0, 360), ground=choice.choice([40, 255]))
        blurred = cv2.GaussianBlur(spoilt, (0, 0), choice.uniform(0.5, 2.5))
        noise = generator.normal(0, choice.uniform(1, 25), spoilt.shape)
        image = np.clip(np.asarray(blurred, np.float64) + noise, 0, 255)
        data = pictures.file(image.astype(np.uint8), ".jpg")
        if TEXT in pictures.read_by_zxing(data) + pictures.read_by_opencv(data):
            read += 1
            assert TEXT in texts(data)
    assert read > 5


# -- several pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "direction"), [(1, "across"), (0, "down")])
def test_a_code_cut_into_two_pictures_is_found(axis: int, direction: str) -> None:
    image = pictures.picture()
    first, second = np.split(image, [image.shape[axis] * 2 // 5], axis=axis)
    blank = np.full((40, 90), 200, np.uint8)
    files = [pictures.file(part) for part in (blank, first.copy(), second.copy())]
    assert all(texts(data) == [] for data in files)
    (code,) = qr.join(files)
    assert (code.text, code.images, code.direction) == (TEXT, (1, 2), direction)


def test_a_code_cut_into_three_strips_is_found() -> None:
    files = [pictures.file(part.copy()) for part in np.array_split(pictures.picture(), 3, axis=0)]
    (code,) = qr.join(files)
    assert (code.text, code.images, code.direction) == (TEXT, (0, 1, 2), "down")


def test_whole_codes_beside_each_other_are_no_joined_ones() -> None:
    data = pictures.file(pictures.picture())
    assert qr.join([data, data, b"no picture"]) == ()
    assert qr.join([]) == ()


# -- headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_headers_say_format_and_size(extension: str) -> None:
    header = read_header(pictures.file(np.full((30, 50), 255, np.uint8), extension))
    assert header is not None
    assert (header.kind, header.width, header.height) == ({".jpg": "jpeg"}.get(extension, extension[1:]), 50, 30)
    assert not header.animated


@pytest.mark.parametrize("extension", [".gif", ".webp", ".png"])
def test_headers_say_animation(extension: str) -> None:
    header = read_header(
        pictures.animation([np.zeros((30, 50), np.uint8), np.full((30, 50), 255, np.uint8)], extension)
    )
    assert header is not None
    assert header.animated


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_headers_say_orientation(orientation: int) -> None:
    header = read_header(pictures.jpeg_with_orientation(np.zeros((20, 20), np.uint8), orientation))
    assert header is not None
    assert header.orientation == orientation
    png = pictures.file(np.zeros((20, 20), np.uint8))
    header = read_header(png[:33] + pictures.chunk(b"eXIf", pictures.exif(orientation)) + png[33:])
    assert header is not None
    assert header.orientation == orientation


def test_a_gif_whose_frame_is_larger_than_its_screen_counts_with_its_frame() -> None:
    data = bytearray(pictures.file(np.zeros((20, 20, 3), np.uint8), ".gif"))
    data[6:10] = b"\x01\x00\x01\x00"
    header = read_header(bytes(data))
    assert header is not None
    assert (header.width, header.height) == (20, 20)


FILES = [pictures.file(pictures.picture(scale=2), extension) for extension in EXTENSIONS] + [
    pictures.animation([np.zeros((30, 30), np.uint8), np.full((30, 30), 255, np.uint8)], extension)
    for extension in (".gif", ".webp", ".png")
]


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 5_000), st.binary(max_size=12), st.booleans())
@example(FILES[0], 24, b"\x10\x06", False)
def test_no_spoilt_picture_raises(data: bytes, at: int, spoilt: bytes, cut: bool) -> None:
    at %= len(data)
    changed = data[:at] + spoilt + (b"" if cut else data[at + len(spoilt) :])
    qr.scan(changed, qr.QrLimits(max_pixels=300_000))


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=80),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8X"]),
)
def test_no_bytes_make_the_header_raise(data: bytes, start: bytes) -> None:
    read_header(start + data)
