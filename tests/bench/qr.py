"""How long it takes to find codes in pictures, and how many are found.

Run ``python -m tests.bench.qr`` for generated pictures, or ``python -m tests.bench.qr FOLDER`` for the pictures of
a folder and its subfolders. Where a file of the same name ending in ``.txt`` says what the code says, what was read
is compared with it (white space aside). One process, one thread; times include decoding the picture.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import zxingcpp

from app.messages import qr

_ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}
_REPEATS = 5
_FORMATS = zxingcpp.barcode_formats_from_str("QRCode")


def generated() -> Iterator[tuple[str, bytes, str | None]]:
    """Yield made pictures: codes of several sizes, turned, blurred and noisy, and pictures without any."""
    random = np.random.default_rng(1)
    for number in range(60):
        text = f"https://bench.example/{number}/" + "x" * int(random.integers(0, 90))
        code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
        image = np.asarray(code.to_image(scale=int(random.integers(2, 9))), np.uint8)
        side = int(max(image.shape) * 1.5)
        matrix = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), float(random.uniform(0, 360)), 1)
        matrix[:, 2] += (side - image.shape[0]) / 2
        turned = cv2.warpAffine(image, matrix, (side, side), borderValue=255)
        blurred = cv2.GaussianBlur(turned, (0, 0), float(random.uniform(0.3, 1.5)))
        noisy = np.clip(np.asarray(blurred, np.float64) + random.normal(0, 12, (side, side)), 0, 255).astype(np.uint8)
        yield f"code {number}", cv2.imencode(".jpg", noisy)[1].tobytes(), text
    for number in range(20):
        small = random.integers(0, 255, (8, 12, 3), np.uint8)
        photo = cv2.resize(small, (600, 400), interpolation=cv2.INTER_CUBIC)
        yield f"no code {number}", cv2.imencode(".jpg", photo)[1].tobytes(), None


def of_folder(folder: Path) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield the pictures of a folder with what their codes say, where that is known."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _ENDINGS:
            truth = path.with_suffix(".txt")
            said = truth.read_text("utf-8", "replace") if truth.exists() else None
            yield str(path.relative_to(folder)), path.read_bytes(), said


def best_of(action: Callable[[], object]) -> float:
    """Return the shortest of several times, in milliseconds."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times) * 1_000


def plain_zxing(data: bytes) -> list[str]:
    """Decode a picture and read it with zxing-cpp, nothing more."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        return []
    return [code.text for code in zxingcpp.read_barcodes(image, formats=_FORMATS)]


def plain_opencv(data: bytes) -> list[str]:
    """Decode a picture and read it with OpenCV, nothing more."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        return []
    done, texts, _, _ = cv2.QRCodeDetector().detectAndDecodeBytesMulti(image)
    return [bytes(text).decode("utf-8", "replace") for text in texts if text] if done else []


_readings = itertools.count(1)


def find_anew(data: bytes) -> list[qr.QrCode]:
    """Find codes. A picture that was read is remembered by its bytes, so more stand behind its end each time."""
    return list(qr.find(data + next(_readings).to_bytes(4)))


def _same(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, help="pictures to read; generated ones without it")
    folder: Path | None = parser.parse_args().folder
    ours: list[float] = []
    plain: list[float] = []
    count = known = right = readable = found = missed = 0
    for name, data, truth in of_folder(folder) if folder else generated():
        count += 1
        texts = {_same(code.text) for code in qr.find(data)}
        either = {_same(text) for text in plain_zxing(data) + plain_opencv(data)} - {""}
        ours.append(best_of(partial(find_anew, data)))
        plain.append(best_of(partial(plain_zxing, data)))
        found += len(texts)
        readable += len(either)
        if either - texts:
            missed += len(either - texts)
            print(f"missed in {name}: {sorted(either - texts)}")
        if truth is not None:
            known += 1
            right += _same(truth) in texts
    if not count:
        print("no pictures found")
        return
    print(f"pictures                      {count}")
    print(f"codes found                   {found}")
    print(f"codes either decoder can read {readable}, missed {missed}")
    print(f"known text read right         {right} of {known}")
    ratios = np.divide(ours, plain)
    print(f"ms per picture                median {np.median(ours):.2f}, p99 {np.percentile(ours, 99):.2f}")
    print(f"ms of zxing-cpp alone         median {np.median(plain):.2f}, p99 {np.percentile(plain, 99):.2f}")
    print(f"ratio to zxing-cpp alone      {sum(ours) / sum(plain):.2f} in all, median {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
