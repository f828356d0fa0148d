"""Coverage-guided fuzzing of the transformer.

    python -m tests.fuzz.transform --seconds 300 [--corpus FOLDER]

Starts from the messages in ``tests/corpus`` and checks what must hold for every input: nothing is raised, restoring
gives back every byte, twice is once. A failing input is written to the folder named by ``--failures``.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["app.messages"]):
    from app.messages import LinkAction, restore, restore_body, transform, transform_body

from tests.unit.messages.gateway_double import GatewayDouble

_CORPUS = Path(__file__).parent.parent / "corpus"
_SNIPPETS = [
    b'<a href="http://evil.example/a">x</a>',
    b"http://evil.example/",
    b"www.evil.example",
    b"=\r\n",
    b"=3D",
    b"\r\n--b1\r\n",
    b"--b1--",
    b"Content-Type: text/html; charset=utf-16\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"<!--[if mso]>",
    b"<![endif]-->",
    b"<base href='//evil.example/'>",
    b"<noscript>",
    b"<svg><a xlink:href=",
    b'<iframe srcdoc="<a href=//evil.example>">',
    b"<meta charset=iso-2022-jp>",
    b"<meta charset=utf-7>",
    b"<plaintext>",
    b"<![CDATA[",
    b"\x1b$B",
    b"\x1b(B",
    b"&#104;ttp:",
    b"\0",
    b"\r",
]


def check(data: bytes) -> None:
    """Check one input; raises AssertionError where something does not hold."""
    gateway = GatewayDouble()
    choice = len(data) % 4
    actions = list(LinkAction)
    by_choice: dict[int, dict[str, Any]] = {
        0: {},
        1: {"decide": lambda link: actions[len(link.source) % len(actions)], "tag": "protected"},
        2: {"bare_domains": True, "rewrite_attachments": True},
        3: {"strip_tracking": True, "qr": "deface"},
    }
    plan = gateway.plan(**by_choice[choice])
    done = transform(data, plan)
    back = restore(done.content, gateway.open, done.undo)
    assert back.content == data, "restoring did not give back the message"
    again = transform(done.content, plan)
    if choice in (0, 2, 3):
        assert again.content == done.content, "transforming twice changed the message again"
    text = data.decode("utf-8", "surrogateescape")
    for is_html in (True, False):
        body = transform_body(text, is_html, plan)
        assert restore_body(body.content, is_html, gateway.open, body.undo).content == text, (
            "the body did not come back"
        )
        if choice in (0, 2, 3):
            assert transform_body(body.content, is_html, plan).content == body.content, "the body changed again"


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """Put in what makes mail interesting, or let the fuzzer change bytes."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        at = chance.randrange(len(data) + 1)
        return (data[:at] + chance.choice(_SNIPPETS) + data[at:])[:size]
    return bytes(atheris.Mutate(data, size))


def main() -> None:
    """Fuzz for a while; the exit status is not zero when an input failed."""
    ask = argparse.ArgumentParser(prog="python -m tests.fuzz.transform", description="Fuzz the transformer.")
    ask.add_argument("--seconds", type=int, default=300)
    ask.add_argument("--corpus", type=Path, default=_CORPUS)
    ask.add_argument("--failures", type=Path, default=Path(tempfile.gettempdir()) / "postern-fuzz")
    options = ask.parse_args()
    options.failures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as grown:
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={options.seconds}",
                "-max_len=6000",
                "-timeout=20",
                f"-artifact_prefix={options.failures}/",
                grown,
                str(options.corpus),
            ],
            check,
            custom_mutator=mutate,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
