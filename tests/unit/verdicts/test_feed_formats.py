# ruff: noqa: E501 - rows as they are published
from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.errors import Refused
from app.verdicts import feed_build
from app.verdicts.feed_formats import detect, entries
from app.verdicts.feed_store import MappedStore

URLHAUS_CSV = """\
################################################################
# abuse.ch URLhaus Database Dump (CSV - recent URLs only)      #
# Last updated: 2026-11-21 12:00:00 (UTC)                      #
################################################################
#
# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter
"3","2026-11-21 11:58:07","http://evil.example/bins/a,b.sh","online","2026-11-21","malware_download","elf","https://urlhaus.abuse.ch/url/3/","x"
"2","2026-11-21 11:50:00","http://198.51.100.7:8080/i","offline","","malware_download","","https://urlhaus.abuse.ch/url/2/","y"
"""
PHISHTANK_CSV = """\
phish_id,url,phish_detail_url,submission_time,verified,verification_time,online,target
1,https://phish.example/a,http://www.phishtank.com/phish_detail.php?phish_id=1,2026-11-21T10:00:00+00:00,yes,2026-11-21T10:10:00+00:00,yes,PayPal
2,https://doubt.example/b,http://www.phishtank.com/phish_detail.php?phish_id=2,2026-11-21T10:00:00+00:00,no,,yes,Other
"""
THREATFOX_CSV = """\
# "first_seen_utc","ioc_id","ioc_value","ioc_type","threat_type","fk_malware","malware_alias","malware_printable","last_seen_utc","confidence_level","reference","tags","anonymous","reporter"
"2026-11-21 11:00:00", "1", "https://fox.example/gate", "url", "payload_delivery", "win.x", "None", "X", "", "100", "", "", "0", "a"
"2026-11-21 11:00:00", "2", "c2.example", "domain", "botnet_cc", "win.x", "None", "X", "", "75", "", "", "0", "a"
"2026-11-21 11:00:00", "3", "198.51.100.9:443", "ip:port", "botnet_cc", "win.x", "None", "X", "", "100", "", "", "0", "a"
"2026-11-21 11:00:00", "4", "unsure.example", "domain", "botnet_cc", "win.x", "None", "X", "", "25", "", "", "0", "a"
"2026-11-21 11:00:00", "5", "d41d8cd98f00b204e9800998ecf8427e", "md5_hash", "payload", "win.x", "None", "X", "", "100", "", "", "0", "a"
"""
OPENPHISH = "https://one.example/login\nhttp://two.example/\n"
HOSTS = "# URLhaus host file\n127.0.0.1\tevil.example\n0.0.0.0 bad.example # why\n127.0.0.1 localhost\n"
PHISHTANK_JSON = json.dumps(
    [{"phish_id": 1, "url": "https://phish.example/a", "verified": "yes", "details": [{"ip_address": "198.51.100.1"}]}]
)
THREATFOX_JSON = json.dumps(
    {
        "1": [{"ioc_value": "https://fox.example/gate", "ioc_type": "url", "confidence_level": 100}],
        "2": [{"ioc_value": "198.51.100.9:443", "ioc_type": "ip:port", "confidence_level": 100}],
        "3": [{"ioc_value": "unsure.example", "ioc_type": "domain", "confidence_level": 10}],
    }
)
MISP = json.dumps(
    {
        "Event": {
            "info": "Phishing",
            "Attribute": [
                {"type": "url", "value": "https://misp.example/x", "to_ids": True},
                {"type": "domain", "value": "seen.example", "to_ids": False},
                {"type": "md5", "value": "d41d8cd98f00b204e9800998ecf8427e", "to_ids": True},
            ],
            "Object": [{"Attribute": [{"type": "hostname", "value": "host.example", "to_ids": True}]}],
        }
    }
)
STIX = json.dumps(
    {
        "type": "bundle",
        "objects": [
            {"type": "identity", "name": "somebody"},
            {
                "type": "indicator",
                "pattern_type": "stix",
                "pattern": "[url:value = 'https://stix.example/it\\'s'] OR [domain-name:value='dom.example']",
            },
            {"type": "indicator", "pattern_type": "stix", "pattern": "[file:hashes.MD5 = 'aa']"},
            {"type": "indicator", "revoked": True, "pattern": "[url:value = 'https://gone.example/']"},
            {"type": "indicator", "pattern_type": "yara", "pattern": "url:value = 'https://no.example/'"},
        ],
    }
)


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        (URLHAUS_CSV, "csv", ["http://evil.example/bins/a,b.sh", "http://198.51.100.7:8080/i"]),
        (PHISHTANK_CSV, "csv", ["https://phish.example/a"]),
        (THREATFOX_CSV, "csv", ["https://fox.example/gate", "c2.example"]),
        (OPENPHISH, "lines", ["https://one.example/login", "http://two.example/"]),
        (HOSTS, "hosts", ["evil.example", "bad.example"]),
        (PHISHTANK_JSON, "json", ["https://phish.example/a"]),
        (THREATFOX_JSON, "json", ["https://fox.example/gate"]),
        (MISP, "json", ["https://misp.example/x", "host.example"]),
        (STIX, "json", ["https://stix.example/it's", "dom.example"]),
        ("malicious\ta.example\nsuspicious\tb.example\n", "lines", ["a.example", "b.example"]),
        ("", "lines", []),
    ],
)
def test_a_list_is_recognised_and_read(text: str, kind: str, found: list[str]) -> None:
    assert detect(text) == kind
    assert [entry.value for entry in entries(text.splitlines(keepends=True))] == found


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", "{"),
        ("json", PHISHTANK_JSON[:-5]),
        ("csv", "a,b\n1,2\n"),
        ("csv", ""),
        ("xml", "<x/>"),
        ("json", "[" * 50_000),
    ],
)
def test_a_list_that_is_cut_off_or_of_another_format_is_refused_whole(kind: str, text: str) -> None:
    with pytest.raises(Refused):
        list(entries(text.splitlines(keepends=True), kind))


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = list(entries(text.splitlines(keepends=True)))
    except Refused:
        return
    assert all(isinstance(entry.value, str) for entry in found)


def test_lists_of_different_formats_go_into_one_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = {"urlhaus.csv": URLHAUS_CSV, "openphish.txt": OPENPHISH, "stix.json": STIX}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    store = tmp_path / "store.pfs"
    assert feed_build.main([str(store), *(str(tmp_path / name) for name in lists)]) == 0
    assert "6 entries, 0 lines passed over" in capsys.readouterr().out
    mapped = MappedStore(store)
    assert mapped.sources == ["urlhaus", "openphish", "stix"]
    assert mapped.find(("198.51.100.7/i",))[0].source == "urlhaus"
    (tmp_path / "stix.json").write_text(STIX[:-9])
    assert feed_build.main([str(store), str(tmp_path / "stix.json")]) == 2
    assert "left as it was" in capsys.readouterr().err
    assert len(MappedStore(store)) == 6
