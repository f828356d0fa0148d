"""The bar that commands show while others work; nothing where nobody watches."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def progress_bar(console: Console, *, stays: bool = True) -> Progress:
    """A bar with what is done, of how many, and for how long.

    Args:
        console: Where it is shown.
        stays: Whether it is left there when all is done.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=not stays,
        disable=not console.is_terminal,
    )
