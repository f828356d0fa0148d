"""The connector's own account of itself."""

from __future__ import annotations

from pathlib import Path

import yaml  # type: ignore[import-untyped]  # ships no types

ROOT = Path(__file__).resolve().parents[4]


def test_each_rule_is_proved_or_gives_its_reason() -> None:
    rules = yaml.safe_load((ROOT / "connectors/google/quality.yaml").read_text(encoding="utf-8"))["rules"]
    assert rules
    for name, rule in rules.items():
        if rule["status"] == "done":
            assert (ROOT / rule["proof"]).is_file(), name
        else:
            assert rule["status"] in ("todo", "exempt"), name
            assert rule["reason"].strip(), name
