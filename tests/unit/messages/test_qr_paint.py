"""Codes made unreadable, and codes replaced."""

from __future__ import annotations

import numpy as np
import pytest

from app.messages import qr
from app.messages.qr.headers import read_header
from tests.unit.messages import qr_pictures as pictures
from tests.unit.messages.qr_pictures import EXTENSIONS, TEXT

GATEWAY = "https://links.example/p/sign-in.example/" + "Ab9-_xQz" * 16


def colored(image: pictures.Picture) -> pictures.Picture:
    return pictures.color(image, (90, 20, 0), (250, 250, 255))


SCENES = {
    "plain": pictures.on_canvas(420, 380, (pictures.picture(), 60, 40)),
    "colored": colored(pictures.on_canvas(420, 380, (pictures.picture(), 60, 40))),
    "turned": pictures.turned(pictures.picture(scale=7), 27),
    "right angle": np.rot90(pictures.picture()).copy(),
    "mirrored": pictures.picture()[:, ::-1].copy(),
    "inverted": 255 - pictures.picture(),
    "foreshortened": pictures.foreshortened(pictures.picture(scale=9)),
}


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_defaced_code_is_unreadable_and_the_rest_stays(scene: str, extension: str) -> None:
    data = pictures.file(SCENES[scene], extension)
    codes = qr.find(data)
    made = qr.deface(data, codes)
    assert qr.find(made) == ()
    assert pictures.read_by_zxing(made) == []
    assert pictures.read_by_opencv(made) == []
    before, after = read_header(data), read_header(made)
    assert before is not None
    assert after is not None
    assert (after.kind, after.width, after.height) == (before.kind, before.width, before.height)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_replaced_code_is_read_by_both_decoders(scene: str, extension: str) -> None:
    data = pictures.file(SCENES[scene], extension)
    made = qr.replace(data, qr.find(data), [GATEWAY])
    assert pictures.read_by_zxing(made) == [GATEWAY]
    assert pictures.read_by_opencv(made) == [GATEWAY]
    before, after = read_header(data), read_header(made)
    assert before is not None
    assert after is not None
    assert (after.width, after.height) == (before.width, before.height)


def test_pixels_away_from_the_codes_stay_in_lossless_formats() -> None:
    generator = np.random.default_rng(3)
    scene = generator.integers(0, 255, (400, 700, 3), np.uint8)
    part = pictures.picture()
    scene[60 : 60 + part.shape[0], 80 : 80 + part.shape[1]] = part[:, :, None]
    data = pictures.file(scene)
    for made in (qr.deface(data, qr.find(data)), qr.replace(data, qr.find(data), [GATEWAY])):
        after = pictures.bitmap(made)
        assert np.array_equal(after[:, part.shape[1] + 80 :], scene[:, part.shape[1] + 80 :])
        assert np.array_equal(after[:60], scene[:60])


def test_only_the_given_codes_are_touched() -> None:
    first, second = pictures.picture("https://a.example/"), pictures.picture("https://b.example/")
    data = pictures.file(pictures.on_canvas(600, 260, (first, 20, 20), (second, 320, 20)))
    codes = qr.find(data)
    assert [code.text for code in qr.find(qr.deface(data, codes[:1]))] == ["https://b.example/"]
    made = qr.replace(data, codes, ["https://gw.example/1", "https://gw.example/2"])
    assert [code.text for code in qr.find(made)] == ["https://gw.example/1", "https://gw.example/2"]
    assert sorted(pictures.read_by_opencv(made)) == ["https://gw.example/1", "https://gw.example/2"]


def test_a_place_too_small_for_the_new_code_is_defaced() -> None:
    data = pictures.file(pictures.on_canvas(300, 200, (pictures.picture(scale=2), 20, 20)))
    made = qr.replace(data, qr.find(data), [GATEWAY * 3])
    assert qr.find(made) == ()
    assert made != data


def test_a_text_too_long_for_any_code_is_defaced() -> None:
    data = pictures.file(pictures.picture(scale=10))
    assert qr.find(qr.replace(data, qr.find(data), ["x" * 4_000])) == ()


def test_one_code_can_be_replaced_while_another_is_too_small() -> None:
    small, large = pictures.picture("https://a.example/", scale=2), pictures.picture("https://b.example/", scale=8)
    data = pictures.file(pictures.on_canvas(420, 320, (small, 5, 5), (large, 120, 20)), ".jpg")
    codes = qr.find(data)
    made = qr.replace(data, codes, [GATEWAY + code.text for code in codes])
    assert [code.text for code in qr.find(made)] == [GATEWAY + "https://b.example/"]


def test_what_became_of_each_code_is_said() -> None:
    parts = [
        (pictures.picture("https://a.example/", scale=2), 5, 5),
        (pictures.picture("https://b.example/"), 120, 20),
        (pictures.picture("https://c.example/"), 360, 20),
    ]
    data = pictures.file(pictures.on_canvas(620, 260, *parts))
    codes = sorted(qr.find(data), key=lambda code: code.text)
    made = qr.repaint(data, [(codes[0], GATEWAY), (codes[1], GATEWAY), (codes[2], None)])
    assert made.outcomes == ("defaced", "replaced", "defaced")
    assert [code.text for code in qr.find(made.data)] == [GATEWAY]


@pytest.mark.parametrize("extension", [".gif", ".webp", ".png"])
def test_all_pictures_of_an_animation_are_changed(extension: str) -> None:
    frame = pictures.picture()
    data = pictures.animation([frame, frame.copy(), 255 - frame], extension)
    codes = qr.find(data)
    assert [code.text for code in codes] == [TEXT]
    assert qr.find(qr.deface(data, codes)) == ()
    assert {code.text for code in qr.find(qr.replace(data, codes, [GATEWAY]))} == {GATEWAY}


def test_an_animation_that_is_not_read_whole_is_left_alone() -> None:
    frames = [pictures.picture(), *(np.full((30, 30), shade, np.uint8) for shade in (0, 90, 200))]
    frames = [pictures.on_canvas(270, 270, (frame, 0, 0)) for frame in frames]
    data = pictures.animation(frames)
    limits = qr.QrLimits(max_frames=2)
    with pytest.raises(qr.CannotPaint, match="more pictures"):
        qr.deface(data, qr.find(data, limits), limits)


def test_transparency_and_orientation_survive() -> None:
    gray = pictures.picture()
    image = np.zeros((*gray.shape, 4), np.uint8)
    image[gray < 128] = (0, 0, 0, 255)
    data = pictures.file(image)
    assert pictures.bitmap(qr.replace(data, qr.find(data), [GATEWAY])).shape[2] == 4
    for orientation in (2, 3, 5, 6, 7):
        data = pictures.jpeg_with_orientation(pictures.on_canvas(420, 300, (gray, 20, 20)), orientation)
        made = qr.replace(data, qr.find(data), [GATEWAY])
        header = read_header(made)
        assert header is not None
        assert header.orientation == orientation
        assert pictures.read_by_zxing(made) == [GATEWAY]
        assert pictures.read_by_opencv(made) == [GATEWAY]


def test_a_resolution_and_a_color_profile_survive_in_png() -> None:
    data = pictures.file(pictures.picture())
    extra = pictures.chunk(b"pHYs", b"\x00\x00\x0b\x13\x00\x00\x0b\x13\x01") + pictures.chunk(
        b"gAMA", b"\x00\x00\xb1\x8f"
    )
    data = data[:33] + extra + data[33:]
    made = qr.deface(data, qr.find(data))
    assert b"pHYs" in made
    assert b"gAMA" in made
    assert pictures.bitmap(made).shape[:2] == pictures.bitmap(data).shape[:2]


def test_nothing_to_change_gives_the_same_bytes() -> None:
    data = pictures.file(pictures.picture())
    assert qr.deface(data, []) is data
    assert qr.replace(data, [], []) is data


def test_what_cannot_be_decoded_is_refused() -> None:
    codes = qr.find(pictures.file(pictures.picture()))
    with pytest.raises(qr.CannotPaint, match="not a PNG"):
        qr.deface(b"no picture", codes)
    with pytest.raises(ValueError, match="as many"):
        qr.replace(b"", codes, [])


def test_codes_of_another_picture_do_not_break_painting() -> None:
    large = qr.find(pictures.file(pictures.on_canvas(900, 900, (pictures.picture(scale=8), 500, 500))))
    small = pictures.file(np.full((100, 100), 255, np.uint8))
    assert pictures.bitmap(qr.deface(small, large)).shape[:2] == (100, 100)
    assert qr.find(qr.replace(small, large, [GATEWAY])) == ()
