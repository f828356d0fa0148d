from __future__ import annotations

import base64
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.emulators.__main__ import main
from connectors.emulators.demo.feed import feed_lines


def test_the_feed_is_printed_for_the_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-feed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == feed_lines()
    assert {line.split("\t")[0] for line in lines} == {"malicious", "suspicious"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Running:
    """The emulators as a process of their own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.credentials_file = folder / "credentials.json"
        self.feed_file = folder / "feed.tsv"
        arguments = {
            "--port": str(self.port),
            "--state-dir": str(folder / "state"),
            "--seed": "demo",
            "--feed-file": str(self.feed_file),
            "--credentials-file": str(self.credentials_file),
            "--push-endpoint": "http://127.0.0.1:9/hooks/google",
            "--redirect-uri": "http://127.0.0.1:9/callback",
        }
        command = [sys.executable, "-m", "connectors.emulators", *(each for pair in arguments.items() for each in pair)]
        # In its own process group, so that a signal reaches it alone.
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if '"emulators"' in line:
                break
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), trust_env=False) as client:
            assert client.get(f"{self.base}/healthz").text == "ok\n"

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.base}{path}", trust_env=False).json()

    def stop(self, how: signal.Signals) -> None:
        os.killpg(self.process.pid, how)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process.wait(20)


def test_a_second_start_goes_on_with_the_demo_after_an_interrupt(tmp_path: Path) -> None:
    first = Running(tmp_path)
    try:
        people = first.get("/control/people")
        assert [person["address"] for person in people if person["is_admin"]] == [
            "mara.lindt@nordwind.example",
            "haruka.mori@kasuga.example",
        ]
        listed = {
            (person["provider"], person["address"]): first.get(
                f"/control/messages?provider={person['provider']}&address={person['address']}"
            )
            for person in people
        }
        assert sum(len(each["messages"]) for each in listed.values()) == 40
        credentials = json.loads(first.credentials_file.read_text())
        assert stat.S_IMODE(first.credentials_file.stat().st_mode) == 0o600
        assert first.feed_file.read_text().splitlines() == feed_lines()
    finally:
        first.stop(signal.SIGINT)
    second = Running(tmp_path)
    try:
        for (provider, address), before in listed.items():
            assert second.get(f"/control/messages?provider={provider}&address={address}") == before
        again = json.loads(second.credentials_file.read_text())
        assert again["microsoft"]["client_secret"] == credentials["microsoft"]["client_secret"]
        for name in ("private_key", "client_email", "client_id"):
            assert again["google"]["service_account"][name] == credentials["google"]["service_account"][name]
        assert again["google"]["oauth_client"] == credentials["google"]["oauth_client"]
    finally:
        second.stop(signal.SIGKILL)


def test_what_was_done_right_before_a_terminate_signal_is_kept(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        before = running.get("/control/google")
        assert before["received_line"] is False
        with httpx.Client(base_url=running.base, trust_env=False) as client:
            assert client.patch("/control/google", json={"received_line": True}).json()["received_line"] is True
            assert client.patch("/control/google", json={"colour": "red"}).status_code == 400
            mailbox = {"mailbox": "haruka.mori@kasuga.example"}
            assert client.post("/control/google/expire", json=mailbox).status_code == 200
            assert client.post("/control/google/expire", json={"mailbox": "nobody@x.example"}).status_code == 404
            mime = base64.b64encode(b"Subject: last\r\n\r\nx").decode()
            for provider, to in (
                ("google", "haruka.mori@kasuga.example"),
                ("microsoft", "mara.lindt@nordwind.example"),
            ):
                body = {"provider": provider, "to": to, "mime_base64": mime}
                assert client.post("/control/deliver", json=body).status_code == 200
    finally:
        running.stop(signal.SIGTERM)
    again = Running(tmp_path)
    try:
        assert again.get("/control/google")["received_line"] is True
        for path in (
            "provider=google&address=haruka.mori@kasuga.example",
            "provider=microsoft&address=mara.lindt@nordwind.example",
        ):
            assert again.get(f"/control/messages?{path}")["messages"][0]["subject"] == "last"
    finally:
        again.stop(signal.SIGKILL)
