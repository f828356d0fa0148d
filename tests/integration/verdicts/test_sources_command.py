"""``postern sources`` as an operator uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.kit.postgres import DatabaseUrls
from app.verdicts.feed_store import MappedStore
from tests.integration.verdicts.publishers import KEY, publisher, urlhaus_csv

Command = Callable[..., str]


@pytest.fixture
def sources(database_urls: DatabaseUrls, tmp_path: Path) -> Command:
    environment = os.environ | {
        "POSTERN_DATABASE_URL": database_urls.app,
        "POSTERN_DATA_DIR": str(tmp_path / "data"),
        "POSTERN_SOURCE_NETWORKS": "127.0.0.0/8",
        "URLHAUS_KEY": KEY,
    }

    def run(*arguments: str, status: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "sources", *arguments],
            capture_output=True,
            text=True,
            env=environment | more,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == status, done.stderr + done.stdout
        return done.stdout + done.stderr

    return run


def listed(sources: Command) -> dict[str, Any]:
    found = json.loads(sources("list", "--json"))
    assert len(found) == 1
    return dict(found[0])


def test_a_source_is_set_up_asked_held_and_accepted(sources: Command) -> None:
    assert "There are no sources" in sources("list")
    with publisher() as server:
        address = server.publish(f"/{KEY}/recent.csv", urlhaus_csv(["http://evil.example/a"]))
        said = sources("add", "urlhaus", "--address", address.replace(KEY, "{key}"), "--key", "env:URLHAUS_KEY")
        assert "fair-use terms" in said
        assert "It is off: postern sources enable URLhaus" in said
        assert "switched off" in sources("refresh", "URLhaus", status=1)
        assert server.asked == []
        sources("enable", "URLhaus")
        said = sources("refresh")
        assert said == "URLhaus: 1 entries\nThe store has 1 entries now, 1 of them new.\n"
        state = listed(sources)
        assert (state["enabled"], state["entries"], state["error"], state["key"]) == (True, 1, "", "env:URLHAUS_KEY")

        server.publish(f"/{KEY}/recent.csv", urlhaus_csv(["http://evil.example/a", "http://google.com/"]))
        assert "held for review: URLhaus:7: lists the whole of google.com" in sources("refresh", status=1)
        assert "HELD" in " ".join(sources("list").split())
        assert "lists the whole of google.com" in sources("review", "URLhaus")
        assert "2 entries is used" in sources("review", "URLhaus", "accept")
        assert "The store has 2 entries now, 1 of them new." in sources("refresh")
    assert KEY not in json.dumps(listed(sources))
    assert "could not be reached" in sources("refresh", status=1)
    sources("disable", "URLhaus")
    sources("remove", "URLhaus")
    assert "There are no sources" in sources("list")


def test_mistakes_are_one_line_and_change_nothing(sources: Command) -> None:
    for arguments, word in (
        (("add", "nope"), "There is no kind of source called nope"),
        (("add", "urlhaus"), "wants a key"),
        (("add", "list", "--address", "https://l.example/", "--option", "x"), "is not NAME=VALUE"),
        (("enable", "nobody"), "There is no source called nobody"),
        (("refresh", "nobody"), "There is no source called nobody"),
        (("review", "nobody", "perhaps"), "Say accept or discard"),
        (("review", "nobody", "accept"), "There is no source called nobody"),
        (("review", "nobody"), "There is no source called nobody"),
    ):
        said = sources(*arguments, status=2)
        assert word in said
        assert said.count("\n") == 1
    assert "There are no sources" in sources("list")


def test_every_kind_shows_its_terms(sources: Command) -> None:
    kinds = json.loads(sources("kinds", "--json"))
    assert {"urlhaus", "openphish", "phishtank", "threatfox", "list"} <= {kind["kind"] for kind in kinds}
    assert all(kind["licence"] for kind in kinds)


def test_a_list_on_disk_becomes_a_store(sources: Command, tmp_path: Path) -> None:
    (tmp_path / "ours.txt").write_text("bad.example\n")
    sources("add", "list", "--name", "Ours", "--address", f"file:{tmp_path}/ours.txt", "--enable", "--weight", "30")
    assert "Ours: 1 entries" in sources("refresh", "Ours")
    store = tmp_path / "data" / "feeds" / "store.pfs"
    assert not store.exists()  # whoever serves fetches it; the command only publishes
    assert not (tmp_path / "data" / "feeds" / "work").exists() or not any((tmp_path / "data/feeds/work").iterdir())
    with pytest.raises(FileNotFoundError):
        MappedStore(store)


def test_a_database_that_is_away_is_said_in_one_line(sources: Command) -> None:
    said = sources("list", status=2, POSTERN_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert said == "postern: The database does not answer. Nothing was changed.\n"
