"""Settings: what an operator reads is what the code takes, and weak keys are refused."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from app.cli import env_example
from app.kit.errors import ConfigurationError
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
GOOD = base64.b64encode(bytes(range(32))).decode()


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]  # pydantic checks the values


def test_the_example_file_is_made_from_the_settings() -> None:
    assert (ROOT / ".env.example").read_text() == env_example()


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    "key",
    [
        "",
        "change-me",
        "change-me-please-0123456789",
        "c2hvcnQ=",
        "not base64!!",
        base64.b64encode(bytes(32)).decode(),
        base64.b64encode(b"a" * 31 + b"b").decode(),
        base64.b64encode(bytes(range(31))).decode(),
    ],
)
def test_a_default_or_weak_master_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError):
        settings(master_key=SecretStr(key)).master_keys()


def test_outside_the_embedded_default_a_key_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match="POSTERN_MASTER_KEY is not set"):
        settings(database_url=SecretStr("postgresql://x/y")).master_keys()


def test_the_embedded_default_makes_its_own_key_once_and_keeps_it_private(tmp_path: Path) -> None:
    first = settings(data_dir=tmp_path).master_keys()
    assert first == settings(data_dir=tmp_path).master_keys()
    assert len(first[1]) == 32
    assert stat.S_IMODE(os.stat(tmp_path / "master.key").st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_retired_keys_come_after_the_current_one() -> None:
    old = base64.b64encode(secrets.token_bytes(32)).decode()
    keys = settings(
        master_key=SecretStr(GOOD), master_key_id=2, retired_master_keys=SecretStr(f"1:{old}")
    ).master_keys()
    assert list(keys) == [2, 1]


@pytest.mark.parametrize("retired", ["x:abc", "300:" + GOOD, "2:" + GOOD, "1:abc"])
def test_bad_retired_keys_are_refused_by_name(retired: str) -> None:
    with pytest.raises(ConfigurationError):
        settings(master_key=SecretStr(GOOD), master_key_id=2, retired_master_keys=SecretStr(retired)).master_keys()


def test_secrets_are_not_shown() -> None:
    made = settings(master_key=SecretStr(GOOD), microsoft_client_secret=SecretStr("s3cret-value"))
    assert GOOD not in repr(made)
    assert "s3cret-value" not in repr(made)


def test_a_prefix_that_is_no_path_segment_is_refused() -> None:
    with pytest.raises(ValidationError):
        settings(gateway_prefix="a/b")
