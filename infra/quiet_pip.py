"""Shows pip's progress as one line per package, so that a first installation is neither silent nor a flood."""

from __future__ import annotations

import sys


def main() -> int:
    """Read pip's output; print packages as they come, and everything from the first error on."""
    failed = False
    count = 0
    for line in sys.stdin:
        if failed or line.startswith("ERROR"):
            failed = True
            sys.stderr.write(line)
        elif line.startswith("Collecting "):
            count += 1
            sys.stdout.write(f"\r  {count:3} {line.split()[1].split('==')[0]:<45.45}")
            sys.stdout.flush()
        elif line.startswith("Installing collected packages"):
            sys.stdout.write(f"\r  installing {count} packages ...{'':<40}")
            sys.stdout.flush()
        elif line.startswith("Successfully installed"):
            sys.stdout.write(f"\r  installed {count} packages.{'':<45}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
