"""The command ``postern``, run as a program."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest

from app.kit.postgres import DatabaseUrls

MESSAGE = (
    b"From: a@other.example\r\nTo: b@our.example\r\nSubject: Hi\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b'<a href=3D"https://news.example/?a=3D1&amp;b=3D2">News</a> =C3=BCber uns\r\n'
)
GATEWAY = "https://gw.example"


@pytest.fixture
def postern(tmp_path: Path) -> object:
    """Runs the command with a data directory of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
    env["POSTERN_DATA_DIR"] = str(tmp_path / "data")

    def run(*arguments: str, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments], env=env | more, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stderr
        return done

    return run


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.eml").write_bytes(MESSAGE)
    (folder / "sub" / "two.eml").write_bytes(MESSAGE.replace(b"news", b"shop"))
    (folder / "sub" / "broken").write_bytes(b"\x00\xff not a message")
    return folder


def test_a_folder_is_transformed_and_restored_byte_for_byte(postern, mails: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out, back, report = tmp_path / "out", tmp_path / "back", tmp_path / "report.json"
    postern("transform", str(mails), str(out), "--gateway", GATEWAY, "--json", str(report))
    names = sorted(str(path.relative_to(mails)) for path in mails.rglob("*") if path.is_file())
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == names
    assert b"https://gw.example/l/news.example/" in (out / "one.eml").read_bytes().replace(b"=\r\n", b"")
    found = json.loads(report.read_text())
    assert found["counts"]["messages"] == 3
    assert found["counts"]["links_rewritten"] == 2
    postern("restore", str(out), str(back))
    for name in names:
        assert (back / name).read_bytes() == (mails / name).read_bytes()


def test_a_single_file_works_too(postern, mails: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    postern("transform", str(mails / "one.eml"), str(tmp_path / "o.eml"), "--gateway", GATEWAY)
    postern("restore", str(tmp_path / "o.eml"), str(tmp_path / "b.eml"))
    assert (tmp_path / "b.eml").read_bytes() == MESSAGE


def test_transforming_again_changes_nothing(postern, mails: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    postern("transform", str(mails), str(tmp_path / "one"), "--gateway", GATEWAY)
    postern("transform", str(tmp_path / "one"), str(tmp_path / "two"), "--gateway", GATEWAY)
    assert (tmp_path / "one" / "one.eml").read_bytes() == (tmp_path / "two" / "one.eml").read_bytes()


def test_unwrap_gives_the_original_address_and_names_broken_links(postern, mails: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    report = tmp_path / "report.json"
    postern("transform", str(mails / "one.eml"), str(tmp_path / "o.eml"), "--gateway", GATEWAY, "--json", str(report))
    (link,) = json.loads(report.read_text())["files"][0]["links"]
    assert postern("unwrap", link["gateway_url"]).stdout == "https://news.example/?a=1&b=2\n"
    changed = link["gateway_url"].replace("/news.example/", "/shop.example/")
    assert "broken (tampered)" in postern("unwrap", changed, status=1).stderr


def test_inspect_url_explains_itself_as_json(postern) -> None:  # type: ignore[no-untyped-def]
    done = postern("inspect-url", "http://0x7f.1/login", "--json", "--offline")
    assert json.loads(done.stdout)["level"] in ("unknown", "suspicious", "malicious")


def test_inspect_url_says_what_would_happen_in_an_organisation(postern, database_urls: DatabaseUrls) -> None:  # type: ignore[no-untyped-def]
    tenant = uuid.uuid4()
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tenants (tenant_id, name, provider, external_id, status) "
            "VALUES (%s, 'Nordwind', 'google', 'x', 'active')",
            (tenant,),
        )
        connection.execute(
            "INSERT INTO mailboxes (tenant_id, external_id, address, domain) "
            "VALUES (%s, 'a', 'ada@n.example', 'n.example')",
            (tenant,),
        )
        connection.execute(
            "INSERT INTO list_entries (tenant_id, action, pattern) VALUES (%s, 'block', 'casino.example')", (tenant,)
        )
    more = {
        "POSTERN_DATABASE_URL": database_urls.app,
        "POSTERN_MASTER_KEY": base64.b64encode(bytes(range(32))).decode(),
    }
    asked = ("inspect-url", "https://casino.example/", "--tenant", "Nordwind")
    data = json.loads(postern(*asked, "--json", **more).stdout)
    assert (data["outcome"], data["treatment"]) == ("block", "anybody")
    assert any("casino.example" in step for step in data["decision"]["trace"])
    assert "ada@n.example: direct (domain)" in postern(*asked, "--user", "Ada@n.example", **more).stdout
    assert "There is no mailbox" in postern(*asked, "--user", "eve@n.example", status=2, **more).stderr
    assert "go with --tenant" in postern("inspect-url", "https://a.example/", "--user", "a@b.example", status=2).stderr


def test_inspect_url_goes_by_the_feed_it_is_given(postern, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    feed = tmp_path / "feed.tsv"
    feed.write_text("malicious\tbad.example\n")
    asked = ("inspect-url", "https://bad.example/x", "--json", "--offline")
    assert json.loads(postern(*asked).stdout)["level"] != "malicious"
    assert json.loads(postern(*asked, "--feed", str(feed)).stdout)["level"] == "malicious"
    assert "--feed" in postern("inspect-url", "--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("transform", "nowhere", "out", "--gateway", GATEWAY),
        ("transform", ".", ".", "--gateway", GATEWAY),
        ("transform", ".", "out", "--gateway", "gw.example"),
        ("run", "nonsense"),
        ("inspect-url", "https://a.example/", "--feed", "nowhere.tsv"),
        ("restore-mail", "--tenant", "x"),
    ],
)
def test_bad_input_is_one_line_and_status_2(postern, arguments: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    done = postern(*arguments, status=2)
    assert done.stderr.startswith("postern: ")
    assert done.stderr.count("\n") == 1


def test_a_setting_that_cannot_be_used_is_named_in_one_line_without_its_value(postern) -> None:  # type: ignore[no-untyped-def]
    done = postern("run", "gateway", status=2, POSTERN_PORT="eighty-eighty")
    assert "POSTERN_PORT" in done.stderr
    assert "eighty-eighty" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_started_where_a_port_is_taken(postern, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        free = {f"POSTERN_{name}": "0" for name in ("PORT", "HEALTH_PORT_WORKER", "EMULATORS_PORT")}
        done = postern("run", "all", status=2, POSTERN_HEALTH_PORT_SCHEDULER=port, **free)
    assert port in done.stderr
    assert "POSTERN_HEALTH_PORT_SCHEDULER" in done.stderr
    assert not (tmp_path / "data" / "pg").exists()


def test_a_role_does_not_start_with_a_weak_key(postern) -> None:  # type: ignore[no-untyped-def]
    done = postern("run", "gateway", status=2, POSTERN_MASTER_KEY="change-me", POSTERN_DATABASE_URL="postgresql:///x")
    assert "placeholder" in done.stderr


def test_the_gateway_imports_no_provider_sdk() -> None:
    code = (
        "import sys, app.serve, app.gateway.runtime\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('msgraph', 'azure', 'googleapiclient', 'kiota_http')]\n"
        "own = ('google.auth', 'connectors.microsoft', 'connectors.google')\n"
        "bad += [m for m in sys.modules if m.startswith(own)]\n"
        "print(bad)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
