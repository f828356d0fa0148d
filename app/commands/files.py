"""Transforming and restoring message files without a database: what ``postern transform`` and ``restore`` do.

The key comes from the environment or the data directory, as for every role. A message that cannot be handled
is copied as it is where it can be read, and named in the report with the reason; nothing is lost.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.kit.crypto import KeyRing
from app.kit.errors import Refused
from app.links.mint import LinkOpener, Minter, message_opener
from app.messages import restore, transform
from app.messages.options import DeliveryOptions
from app.messages.types import TransformResult
from app.messages.undo import UndoMismatch, is_record, revert

UNDO_SUFFIX = ".undo"


@dataclass
class OfflineReport:
    """What happened to each file; ``as_json`` is the stable form for other programs."""

    counts: Counter[str] = field(default_factory=Counter)
    files: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Counts and files, ready for JSON."""
        return {"counts": dict(sorted(self.counts.items())), "files": self.files}


def message_files(source: Path) -> Iterator[tuple[Path, Path]]:
    """Each message file with its name relative to ``source``; the file itself where it is one.

    Raises:
        Refused: There is no such file or folder.
    """
    if source.is_file():
        yield source, Path(source.name)
        return
    if not source.is_dir():
        raise Refused(f"There is no file or folder {source}. Nothing was written.", "no_input")
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file():
                yield path, path.relative_to(source)


def transform_files(
    source: Path,
    target: Path,
    keys: KeyRing,
    gateway: str,
    prefix: str,
    progress: Callable[[], None] = lambda: None,
    options: DeliveryOptions | None = None,
) -> OfflineReport:
    """Transform a message or a folder of messages.

    Args:
        source: File or folder, walked recursively.
        target: File, or folder with the same relative names.
        keys: Master keys.
        gateway: Address of the gateway.
        prefix: First path segment of links.
        progress: Called after each file.
        options: How links are treated; None: every link is rewritten.

    Raises:
        Refused: The input does not exist, or a message would be written over itself. Nothing was written.
    """
    report = OfflineReport()
    mint = Minter(keys, gateway, prefix)
    open_link = message_opener(LinkOpener(keys, gateway, prefix), 0, 0, 0)
    plan = (options or DeliveryOptions()).plan(gateway, mint, open_link)
    for path, name, destination in _pairs(source, target):
        with _reported(report, name):
            raw = path.read_bytes()
            result = transform(raw, plan)
            record = result.undo if result.changed else _fitting_undo(path, raw)
            undo = _undo_path(destination)
            try:
                if record is not None:
                    _write(undo, record)  # first: a rewritten message without its record could not be restored
                elif undo.is_file() and is_record(undo.read_bytes()):
                    undo.unlink()  # left by an earlier run over another message of this name
            except OSError:
                _write(destination, raw)
                raise
            _write(destination, result.content)
            _note_transform(report, name, result)
        progress()
    return report


def restore_files(
    source: Path, target: Path, keys: KeyRing, progress: Callable[[], None] = lambda: None
) -> OfflineReport:
    """Give the original links back to a message or a folder of messages; reads ``NAME.undo`` where there is one.

    Raises:
        Refused: The input does not exist, or a message would be written over itself. Nothing was written.
    """
    report = OfflineReport()
    open_link = message_opener(LinkOpener(keys, "", ""), 0, 0, 0)
    for path, name, destination in _pairs(source, target):
        with _reported(report, name):
            result = restore(path.read_bytes(), open_link, _undo_beside(path))
            _write(destination, result.content)
            report.counts["messages"] += 1
            report.counts["changed"] += result.changed
            report.counts["links_restored"] += result.restored
            report.counts["links_failed"] += len(result.failed)
            report.files.append(
                {
                    "name": name.as_posix(),
                    "changed": result.changed,
                    "restored": result.restored,
                    "failed": [{"part": f.part, "url": f.url, "reason": f.reason} for f in result.failed],
                }
            )
        progress()
    return report


@contextmanager
def _reported(report: OfflineReport, name: Path) -> Iterator[None]:
    """A file that cannot be read or written is named in the report; the others are handled all the same."""
    try:
        yield
    except OSError as error:
        report.counts["failed"] += 1
        report.files.append({"name": name.as_posix(), "error": error.strerror or type(error).__name__})


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path, Path]]:
    """Every message with its relative name and where it goes; undo records and what was written before are none."""
    if source.resolve() == target.resolve():
        raise Refused("Input and output are the same. Nothing was written.", "same_output")
    if source.is_dir() and target.is_file():
        raise Refused(f"{target} is a file, but the input is a folder. Nothing was written.", "bad_output")
    inside = source.is_dir() and target.resolve().is_relative_to(source.resolve())
    # The list is made first, so that an output folder inside the input is not read again.
    found = list(message_files(source))
    paths = {path for path, _ in found}
    pairs: list[tuple[Path, Path, Path]] = []
    for path, name in found:
        if path.name.endswith(UNDO_SUFFIX) and path.with_name(path.name.removesuffix(UNDO_SUFFIX)) in paths:
            continue
        if inside and path.resolve().is_relative_to(target.resolve()):
            continue
        destination = _destination(source, target, name)
        if destination.exists() and destination.samefile(path):
            raise Refused(f"{path} would be written over itself. Nothing was written.", "same_output")
        pairs.append((path, name, destination))
    return pairs


def _undo_path(path: Path) -> Path:
    return path.with_name(path.name + UNDO_SUFFIX)


def _fitting_undo(path: Path, raw: bytes) -> bytes | None:
    """The record of a message that was rewritten before: it stays with it."""
    record = _undo_beside(path)
    if record is not None:
        try:
            revert(raw, record)
        except UndoMismatch:
            return None
    return record


def _undo_beside(path: Path) -> bytes | None:
    undo = _undo_path(path)
    return undo.read_bytes() if undo.is_file() else None


def _destination(source: Path, target: Path, name: Path) -> Path:
    if source.is_file() and not target.is_dir():
        return target
    return target / name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".postern-{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _note_transform(report: OfflineReport, name: Path, result: TransformResult) -> None:
    report.counts["messages"] += 1
    report.counts["changed"] += result.changed
    report.counts["links"] += len(result.links)
    report.counts["links_rewritten"] += sum(1 for link in result.links if link.gateway_url)
    report.counts["warnings"] += len(result.warnings)
    if result.skipped is not None:
        report.counts[f"skipped_{result.skipped}"] += 1
    report.files.append(
        {
            "name": name.as_posix(),
            "changed": result.changed,
            "skipped": str(result.skipped) if result.skipped else None,
            "undo": result.undo is not None,
            "links": [
                {
                    "url": link.link.url,
                    "kind": str(link.link.kind),
                    "part": link.link.part,
                    "action": str(link.action),
                    "gateway_url": link.gateway_url,
                    "findings": [finding.code for finding in link.link.findings],
                }
                for link in result.links
            ],
            "warnings": [{"code": w.code, "part": w.part, "message": w.message} for w in result.warnings],
            "findings": [finding.code for finding in result.findings],
        }
    )
