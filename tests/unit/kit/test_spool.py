from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.kit.spool import Mode, SpoolWriter, encode
from app.kit.spool_reader import Batch, SpoolReader


async def _write(folder: Path, payloads: list[bytes], mode: Mode = "auto") -> SpoolWriter:
    writer = SpoolWriter(folder, mode=mode)
    writer.start()
    results = await asyncio.gather(*(writer.append(payload) for payload in payloads))
    assert all(results)
    await writer.stop()
    return writer


def _read(folder: Path, limit: int = 500) -> list[bytes]:
    reader = SpoolReader(folder)
    return [payload for batch in reader.batches(limit) for payload in batch.payloads]


MODES: tuple[Mode, ...] = ("inline", "thread")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1, 3, 500])
def test_records_come_back_in_order(tmp_path: Path, limit: int, mode: Mode) -> None:
    payloads = [f"event {number}".encode() for number in range(10)]
    asyncio.run(_write(tmp_path, payloads, mode))
    assert _read(tmp_path, limit) == payloads


@pytest.mark.parametrize("mode", MODES)
def test_records_written_together_share_a_flush(tmp_path: Path, mode: Mode) -> None:
    writer = asyncio.run(_write(tmp_path, [b"x"] * 500, mode))
    assert writer.stats.written == 500
    assert writer.stats.groups < 250


def test_full_segments_are_followed_by_new_ones(tmp_path: Path) -> None:
    async def one_after_the_other() -> None:
        writer = SpoolWriter(tmp_path, segment_bytes=100)
        writer.start()
        for number in range(20):
            assert await writer.append(b"%040d" % number)
        await writer.stop()

    asyncio.run(one_after_the_other())
    assert len(list(tmp_path.glob("*.spool"))) > 5
    assert [int(payload) for payload in _read(tmp_path)] == list(range(20))


def test_acknowledged_records_do_not_come_again(tmp_path: Path) -> None:
    asyncio.run(_write(tmp_path, [b"a", b"b", b"c"]))
    reader = SpoolReader(tmp_path)
    first = next(iter(reader.batches(limit=2)))
    assert first.payloads == (b"a", b"b")
    reader.acknowledge(first)
    assert _read(tmp_path) == [b"c"]


def test_a_finished_segment_is_removed(tmp_path: Path) -> None:
    asyncio.run(_write(tmp_path, [b"a"]))
    reader = SpoolReader(tmp_path)
    for batch in reader.batches():
        reader.acknowledge(batch)
    assert list(tmp_path.iterdir()) == []
    assert reader.pending_bytes() == 0


def test_a_segment_in_use_is_read_but_kept(tmp_path: Path) -> None:
    async def both() -> list[Batch]:
        writer = SpoolWriter(tmp_path)
        writer.start()
        await writer.append(b"first")
        reader = SpoolReader(tmp_path)
        seen = list(reader.batches())
        for batch in seen:
            reader.acknowledge(batch)
        await writer.append(b"second")
        seen += list(reader.batches())
        await writer.stop()
        return seen

    seen = asyncio.run(both())
    assert [(batch.payloads, batch.finished) for batch in seen] == [((b"first",), False), ((b"second",), False)]


@pytest.mark.parametrize("cut", range(1, len(encode(b"second"))))
def test_a_record_torn_at_any_byte_is_dropped_and_counted(tmp_path: Path, cut: int) -> None:
    whole = encode(b"first")
    (tmp_path / "1-000001.spool").write_bytes(whole + encode(b"second")[:-cut])
    reader = SpoolReader(tmp_path)
    batches = list(reader.batches())
    assert [batch.payloads for batch in batches] == [(b"first",)]
    assert batches[-1].finished
    assert reader.stats.torn == 1


def test_damage_in_the_middle_costs_no_other_record(tmp_path: Path) -> None:
    records = [encode(b"one"), bytearray(encode(b"two")), encode(b"three")]
    records[1][-1] ^= 1
    (tmp_path / "1-000001.spool").write_bytes(b"".join(records))
    reader = SpoolReader(tmp_path)
    assert [payload for batch in reader.batches() for payload in batch.payloads] == [b"one", b"three"]
    assert reader.stats.damaged == 1


def test_an_announced_length_beyond_all_bounds_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "1-000001.spool").write_bytes(b"\xe7\x51\xff\xff\xff\xff\0\0\0\0" + encode(b"good"))
    assert _read(tmp_path) == [b"good"]


def test_only_one_reader_at_a_time(tmp_path: Path) -> None:
    first, second = SpoolReader(tmp_path), SpoolReader(tmp_path)
    assert first.lock()
    assert first.lock()
    assert not second.lock()
    first.unlock()
    assert second.lock()
    second.unlock()


_WRITER = """
import asyncio, sys
from pathlib import Path
from app.kit.spool import SpoolWriter

async def main():
    writer = SpoolWriter(Path(sys.argv[1]), mode=sys.argv[2])
    writer.start()
    number = 0
    while True:
        await asyncio.gather(*(writer.append(b"%d" % (number + i)) for i in range(7)))
        number += 7
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", MODES)
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, mode: Mode) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), mode], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = [20 * 7, *(int(line) for line in process.stdout.read().split() if line)][-1]
    process.wait()
    process.stdout.close()
    numbers = sorted(map(int, _read(tmp_path)))
    assert numbers[:acknowledged] == list(range(acknowledged))
    assert len(numbers) == len(set(numbers))
    assert SpoolReader(tmp_path).lock()


_FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from app.kit.spool import SpoolWriter
from app.kit.spool_reader import SpoolReader

async def main():
    # A file size limit makes write() fail half-way, as a full disk does.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = SpoolWriter(Path(sys.argv[1]), mode=sys.argv[2])
    writer.start()
    assert await writer.append(b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, resource.RLIM_INFINITY))
    assert not await writer.append(b"during" * 20)
    assert writer.stats.error and writer.stats.late == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert await writer.append(b"after")
    assert not writer.stats.error and writer.stats.lost == 0
    await writer.stop()

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_is_reported_and_nothing_is_lost_or_doubled_once_there_is_room(tmp_path: Path, mode: Mode) -> None:
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path), mode]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert _read(tmp_path) == [b"before", b"during" * 20, b"after"]


def test_segments_are_private(tmp_path: Path) -> None:
    asyncio.run(_write(tmp_path, [b"x"]))
    (segment,) = tmp_path.glob("*.spool")
    assert os.stat(segment).st_mode & 0o077 == 0
