"""Fuzz without a word unless an input failed, as CI wants it.

    python -m tests.fuzz.quietly --seconds 15

Takes the arguments of ``tests.fuzz.transform``. The exit status is not zero where an input failed; what the fuzzer said
last is printed then.
"""

from __future__ import annotations

import subprocess
import sys

_PRINTED = 20_000


def main() -> int:
    """Run the fuzzer in another process; return its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.transform", *sys.argv[1:]],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        sys.stdout.buffer.write(done.stdout[-_PRINTED:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
