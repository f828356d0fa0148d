"""Pictures with codes, made in the tests."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import numpy.typing as npt
import zxingcpp

Picture = npt.NDArray[np.uint8]

TEXT = "https://sign-in.example/verify?u=4711"
EXTENSIONS = (".png", ".jpg", ".gif", ".webp", ".bmp")


def modules(text: str = TEXT, level: str = "M") -> npt.NDArray[np.bool_]:
    """Return a symbol without quiet zone; True is dark."""
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level=level)
    return np.asarray(code.to_image(scale=1, add_quiet_zones=False), np.uint8) < 128


def picture(text: str = TEXT, scale: int = 6, level: str = "M", quiet: int = 4) -> Picture:
    """Return a symbol in gray, with a quiet zone."""
    light = np.pad(~modules(text, level), quiet, constant_values=True).astype(np.uint8) * 255
    return np.kron(light, np.ones((scale, scale), np.uint8))


def color(gray: Picture, dark: tuple[int, int, int], light: tuple[int, int, int]) -> Picture:
    """Return a gray picture in two colors (BGR)."""
    made = np.empty((*gray.shape, 3), np.uint8)
    made[gray < 128], made[gray >= 128] = dark, light
    return made


def on_canvas(width: int, height: int, *placed: tuple[Picture, int, int]) -> Picture:
    """Return a white picture with others put on it at left and top."""
    canvas = np.full((height, width), 255, np.uint8)
    for part, left, top in placed:
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas


def file(image: Picture, extension: str = ".png") -> bytes:
    """Return a picture as a file."""
    if extension == ".gif" and image.ndim == 2:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    done, buffer = cv2.imencode(extension, image)
    assert done
    return bytes(np.asarray(buffer, np.uint8).tobytes())


def animation(frames: list[Picture], extension: str = ".gif") -> bytes:
    """Return an animation as a file."""
    made = cv2.Animation()
    made.frames = [cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame for frame in frames]
    made.durations = [100] * len(frames)
    done, buffer = cv2.imencodeanimation(extension, made)
    assert done
    return bytes(np.asarray(buffer, np.uint8).tobytes())


def bitmap(data: bytes) -> Picture:
    """Decode a file as it is stored."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def shown(data: bytes) -> Picture:
    """Decode a file as it is shown: oriented, in color."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def read_by_zxing(data: bytes) -> list[str]:
    """Read a file with zxing-cpp alone."""
    return [code.text for code in zxingcpp.read_barcodes(shown(data))]


def read_by_opencv(data: bytes) -> list[str]:
    """Read a file with OpenCV alone."""
    done, texts, _, _ = cv2.QRCodeDetector().detectAndDecodeBytesMulti(shown(data))
    return [bytes(text).decode() for text in texts if text] if done else []


def turned(image: Picture, degrees: float, size: float = 1.0, ground: int = 255) -> Picture:
    """Return a picture turned around its middle on a larger canvas."""
    height, width = image.shape[:2]
    side = int(np.hypot(height, width)) + 4
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, size)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderValue=ground), np.uint8)


def foreshortened(image: Picture, ground: int = 200) -> Picture:
    """Return a picture as seen from the side."""
    height, width = image.shape[:2]
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    target = source + np.array([[40, 20], [-20, 50], [-45, -10], [12, -50]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    return np.asarray(cv2.warpPerspective(image, matrix, (width, height), borderValue=ground), np.uint8)


def exif(orientation: int) -> bytes:
    """Return a TIFF block with one orientation tag."""
    return (
        b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"
        + orientation.to_bytes(2, "big")
        + b"\x00\x00\x00\x00\x00\x00"
    )


def jpeg_with_orientation(image: Picture, orientation: int) -> bytes:
    """Return a JPEG file that is to be shown turned or mirrored."""
    data = file(image, ".jpg")
    body = b"Exif\x00\x00" + exif(orientation)
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG file that claims many pixels."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1_000))
        + chunk(b"IEND", b"")
    )
