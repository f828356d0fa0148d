"""The gateway over real HTTP: what each kind of link gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.gateway.limits import Limits
from app.kit.crypto import KeyRing
from app.kit.spool_reader import SpoolReader
from app.policy.engine import ListRule, PageWords, PolicySnapshot
from tests.integration.gateway.serving import Served, serve

SNAPSHOT = PolicySnapshot(
    1001,
    "",
    name="Contoso & Söhne",
    rules=(
        ListRule(1, "allow", "wildcard", "fine.evil.example"),
        ListRule(2, "block", "wildcard", "casino.example"),
        ListRule(3, "lock", "wildcard", "held.example"),
    ),
    words=PageWords(contact="it@contoso.example"),
)


@pytest.fixture
def served(tmp_path: Path, keyring: KeyRing) -> Iterator[Served]:
    with serve(tmp_path, keyring, snapshots=(SNAPSHOT,)) as running:
        running.list_as("malicious", "evil.example")
        running.list_as("suspicious", "odd.example/x/")
        yield running


def events(served: Served) -> list[dict[str, object]]:
    folder = served.gateway.deps.spool.folder
    return [json.loads(payload) for batch in SpoolReader(folder).batches() for payload in batch.payloads]


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example/A/b?x=1&y=%20#Frag",
        "http://good.example:8080/CaSe",
        "https://good.example",
        "https://good.example/?q=a+b;c=(d)'e",
        "HTTPS://Good.Example/Path",
        "https://user@good.example/p",
    ],
)
def test_a_link_without_findings_redirects_to_exactly_what_stood_in_the_message(served: Served, url: str) -> None:
    answer = httpx.get(served.link(url))
    assert answer.status_code == 302
    assert answer.headers["location"] == url
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://good.example/ü b", "https://good.example/%C3%BC%20b"),
        ("https://good.example/a\r\nSet-Cookie: x=1", "https://good.example/aSet-Cookie:%20x=1"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https:\\\\good.example\\x", "https://good.example/x"),
        ("http://good.example/\x00x", "http://good.example/%00x"),
    ],
)
def test_other_spellings_redirect_as_a_browser_would_write_them(served: Served, url: str, location: str) -> None:
    answer = httpx.get(served.link(url))
    assert answer.status_code == 302
    assert answer.headers["location"] == location
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://[", "data:text/html,x", "ftp://f.example/", "//x"])
def test_what_is_no_web_address_is_never_redirected_to(served: Served, url: str) -> None:
    answer = httpx.get(served.link(url))
    assert answer.status_code == 403
    assert "location" not in answer.headers
    assert 'data-page="block"' in answer.text


def test_a_listed_link_is_blocked_with_the_reason_and_no_way_through(served: Served) -> None:
    answer = httpx.get(served.link("https://sub.evil.example/x?y=1"))
    assert answer.status_code == 403
    assert "location" not in answer.headers
    assert 'data-testid="reason"' in answer.text
    assert "list of dangerous sites" in answer.text
    assert "<b>evil.example</b>" in answer.text
    assert "Contoso &amp; Söhne" in answer.text
    assert 'data-testid="continue"' not in answer.text
    assert 'href="https' not in answer.text


def test_the_tenants_block_and_allow_entries_go_before_the_verdict(served: Served) -> None:
    blocked = httpx.get(served.link("https://www.casino.example/play"))
    assert blocked.status_code == 403
    assert "does not allow links to www.casino.example" in blocked.text
    assert httpx.get(served.link("https://fine.evil.example/")).status_code == 302


def test_a_locked_link_is_held(served: Served) -> None:
    answer = httpx.get(served.link("https://held.example/"))
    assert answer.status_code == 403
    assert 'data-page="lock"' in answer.text
    assert 'value="release"' in answer.text


def test_a_suspicious_link_warns_and_continues_on_the_readers_word(served: Served) -> None:
    link = served.link("https://odd.example/x/y?a=1#top")
    page = httpx.get(link)
    assert page.status_code == 200
    assert 'data-testid="destination"' in page.text
    key = re.search(r'name="key" value="([^"]+)"', page.text)
    assert key is not None
    onward = httpx.post(link, data={"act": "continue", "key": key[1]})
    assert onward.status_code == 303
    assert onward.headers["location"] == "https://odd.example/x/y?a=1#top"
    assert [event["action"] for event in events(served)] == ["warn", "proceed"]


def test_a_link_that_turned_bad_meanwhile_is_not_continued_to(served: Served) -> None:
    link = served.link("https://odd.example/x/late")
    key = re.search(r'name="key" value="([^"]+)"', httpx.get(link).text)
    assert key is not None
    served.list_as("malicious", "odd.example")
    assert httpx.post(link, data={"act": "continue", "key": key[1]}).status_code == 403


def test_a_changed_list_counts_at_the_next_click(served: Served) -> None:
    link = served.link("https://weapon.example/later")
    assert httpx.get(link).status_code == 302
    served.list_as("malicious", "weapon.example")
    assert httpx.get(link).status_code == 403


def test_a_changed_policy_counts_at_the_next_click(served: Served) -> None:
    link = served.link("https://evil.example/")
    assert httpx.get(link).status_code == 403
    allowed = PolicySnapshot(1001, name="Contoso", rules=(ListRule(9, "allow", "wildcard", "evil.example"),))
    served.gateway.deps.snapshots.put(allowed)
    assert httpx.get(link).status_code == 302


def test_every_answered_click_is_on_disk_with_what_is_needed_to_tell_it(served: Served) -> None:
    headers = {"user-agent": "Mozilla \u202e\x85(X)".encode(), "sec-fetch-site": "cross-site", "accept-language": "en"}
    httpx.get(served.link("https://good.example/a", message_no=9, mailbox_no=4), headers=headers)
    httpx.get(served.link("https://evil.example/b"), headers=headers)
    first, second = events(served)
    assert (first["tenant"], first["mailbox"], first["message"]) == (1001, 4, 9)
    assert (first["url"], first["host"]) == ("https://good.example/a", "good.example")
    assert (first["level"], first["action"], first["rule"]) == ("unknown", "redirect", "verdict:unknown")
    assert first["agent"] == "Mozilla   (X)"
    assert first["signals"] == {"sec-fetch-site": "cross-site", "accept": "*/*", "accept-language": "en"}
    assert "address" not in first
    assert second["action"] == "block"
    assert isinstance(second["evidence"], list)
    assert second["evidence"][0]["code"] == "listed_malicious"


def test_the_client_address_is_kept_only_where_the_tenant_wants_it(served: Served) -> None:
    served.gateway.deps.snapshots.put(PolicySnapshot(1001, keep_address=True))
    httpx.get(served.link("https://good.example/a"))
    assert events(served)[0]["address"] == "127.0.0.1"


def test_head_options_and_prefetch_are_no_clicks(served: Served) -> None:
    link = served.link("https://good.example/a")
    assert httpx.head(link).headers["location"] == "https://good.example/a"
    assert httpx.options(link).headers["allow"] == "GET, HEAD, POST, OPTIONS"
    for header in ("sec-purpose", "purpose", "x-moz"):
        ahead = httpx.get(link, headers={header: "prefetch"})
        assert ahead.status_code == 503
        assert "location" not in ahead.headers
    assert httpx.get(link, headers={"sec-purpose": "prefetch;prerender"}).status_code == 503
    assert events(served) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    answer = httpx.request(method, served.link("https://good.example/a"))
    assert answer.status_code == 405
    assert "location" not in answer.headers
    assert events(served) == []


def test_a_broken_link_has_its_own_page_and_no_redirect(served: Served) -> None:
    link = served.link("https://good.example/a")
    other_host = link.replace("good.example", "evil.test")
    for changed in (link[:-1], link + "A", other_host, served.url + "/l/x/y", link + "/z/w"):
        answer = httpx.get(changed)
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert "does not work" in answer.text
    assert events(served) == []


@pytest.mark.parametrize(
    ("accept", "words"), [("de-AT,de;q=0.9", "Dieser Link wurde blockiert"), ("ja", "ブロックされました")]
)
def test_pages_speak_the_readers_language(served: Served, accept: str, words: str) -> None:
    answer = httpx.get(served.link("https://evil.example/"), headers={"accept-language": accept})
    assert words in answer.text
    assert answer.headers["content-language"] == accept[:2]
    assert f'<html lang="{accept[:2]}"' in answer.text


def test_the_tenants_language_counts_where_the_browser_names_none(served: Served) -> None:
    served.gateway.deps.snapshots.put(PolicySnapshot(1001, words=PageWords(locale="de")))
    assert "Dieser Link wurde blockiert" in httpx.get(served.link("https://evil.example/")).text


def test_asking_for_release_and_reporting_a_mistake_are_spooled(served: Served) -> None:
    link = served.link("https://evil.example/")
    page = httpx.get(link).text
    keys = dict(re.findall(r'name="act" value="(\w+)"><input type="hidden" name="key" value="([^"]+)"', page))
    assert set(keys) == {"release", "mistake"}
    for act, key in keys.items():
        answer = httpx.post(link, data={"act": act, "key": key, "reason": "=cmd|'x'!A0\r\n" + "y" * 1000})
        assert answer.status_code == 200
        assert "Your message was sent" in answer.text
    _, release, mistake = events(served)
    assert (release["kind"], release["report"], release["host"]) == ("report", "release", "evil.example")
    assert mistake["report"] == "mistake"
    assert len(str(release["reason"])) == 300
    assert str(release["reason"]).isprintable()


def test_a_person_can_report_a_suspicious_link_as_dangerous(served: Served) -> None:
    link = served.link("https://odd.example/x/y")
    key = re.search(r'value="harmful"><input type="hidden" name="key" value="([^"]+)"', httpx.get(link).text)
    assert key is not None
    answer = httpx.post(link, data={"act": "harmful", "key": key[1], "reason": "asked for my PIN"})
    assert answer.status_code == 200
    assert [event.get("report") for event in events(served)] == [None, "harmful"]


def test_a_tenants_own_block_page_is_used(served: Served) -> None:
    words = PageWords(block_url="https://intranet.contoso.example/blocked")
    served.gateway.deps.snapshots.put(PolicySnapshot(1001, words=words))
    answer = httpx.get(served.link("https://evil.example/"))
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://intranet.contoso.example/blocked"


def test_explain_tells_where_a_link_leads_and_not_for_whom(served: Served) -> None:
    assert httpx.get(served.url + "/explain").status_code == 200
    link = served.link("https://evil.example/deep?x=1")
    answer = httpx.post(served.url + "/explain", data={"link": f" <{link}> "})
    assert answer.status_code == 200
    assert "<b>evil.example</b>" in answer.text
    assert "It would be blocked." in answer.text
    assert events(served) == []
    broken = httpx.post(served.url + "/explain", data={"link": "https://evil.example/"})
    assert "not a protected link" in broken.text


def test_health_and_readiness(served: Served) -> None:
    assert httpx.get(served.url + "/healthz").json() == {"status": "alive"}
    ready = httpx.get(served.url + "/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"


def test_a_gateway_without_any_policy_is_not_ready(tmp_path: Path, keyring: KeyRing) -> None:
    with serve(tmp_path, keyring) as served:
        assert httpx.get(served.url + "/readyz").status_code == 503


def test_floods_are_limited_per_link_and_per_address(tmp_path: Path, keyring: KeyRing) -> None:
    limits = Limits(window_seconds=600, per_token=3, per_address=12, broken_per_address=2)
    with serve(tmp_path, keyring, snapshots=(SNAPSHOT,), limits=limits) as served:
        link = served.link("https://good.example/a")
        assert [httpx.get(link).status_code for _ in range(4)] == [302, 302, 302, 429]
        assert httpx.get(served.link("https://good.example/b")).status_code == 302
        broken = [httpx.get(f"{served.url}/l/x/{number}") for number in range(3)]
        assert [answer.status_code for answer in broken] == [404, 404, 429]
        assert broken[2].headers["retry-after"] == "60"
        statuses = [httpx.get(served.link(f"https://good.example/{number}")).status_code for number in range(10)]
        assert statuses[-1] == 429


def test_a_link_of_another_tenant_is_judged_by_that_tenants_policy(served: Served) -> None:
    served.gateway.deps.snapshots.put(PolicySnapshot(1002, name="Fabrikam"))
    assert httpx.get(served.link("https://casino.example/", tenant_no=1002)).status_code == 302
    assert httpx.get(served.link("https://casino.example/")).status_code == 403


def test_links_of_retired_keys_still_open(tmp_path: Path) -> None:
    old = KeyRing({1: bytes(range(32))})
    both = KeyRing({2: bytes(range(1, 33)), 1: bytes(range(32))})
    with serve(tmp_path, both, snapshots=(SNAPSHOT,)) as served:
        served.keyring = old
        assert httpx.get(served.link("https://good.example/a")).status_code == 302


def test_what_is_filled_into_a_form_of_the_mail_goes_where_the_form_would_have_sent_it(served: Served) -> None:
    link = served.link("https://survey.example/answer?old=1#end", kind="form")
    by_get = httpx.get(f"{link}?q=a+b&n=%C3%BC")
    assert by_get.status_code == 302
    assert by_get.headers["location"] == "https://survey.example/answer?q=a+b&n=%C3%BC#end"
    by_post = httpx.post(link, data={"q": "a b"})
    assert by_post.status_code == 307
    assert by_post.headers["location"] == "https://survey.example/answer?old=1#end"


def test_a_form_to_a_dangerous_place_is_blocked_like_any_link(served: Served) -> None:
    answer = httpx.post(served.link("https://evil.example/steal", kind="form"), data={"password": "x"})
    assert answer.status_code == 403
    assert "location" not in answer.headers


def test_what_is_filled_in_is_judged_and_not_recorded(served: Served) -> None:
    served.list_as("malicious", "survey.example/answer?go=evil")
    link = served.link("https://survey.example/answer", kind="form")
    assert httpx.get(f"{link}?go=evil").status_code == 403
    assert httpx.get(f"{link}?name=Ada").status_code == 302
    assert {event["url"] for event in events(served)} == {"https://survey.example/answer"}


def test_fields_after_an_ordinary_link_do_not_change_where_it_leads(served: Served) -> None:
    answer = httpx.get(f"{served.link('https://good.example/p?x=1')}?x=2")
    assert answer.headers["location"] == "https://good.example/p?x=1"


def test_a_link_of_a_message_that_is_too_old_has_expired(tmp_path: Path, keyring: KeyRing) -> None:
    aging = PolicySnapshot(1001, name="Contoso", expired_below=500)
    with serve(tmp_path, keyring, snapshots=(aging,)) as served:
        old, young = (
            served.link("https://good.example/", message_no=499),
            served.link("https://g.example/", message_no=500),
        )
        for method in ("GET", "POST"):
            answer = httpx.request(method, old)
            assert answer.status_code == 410
            assert 'data-page="expired"' in answer.text
            assert "location" not in answer.headers
        assert httpx.head(old).status_code == 410
        assert httpx.get(young).status_code == 302
        assert [event["action"] for event in events(served)] == ["expired", "expired", "redirect"]


def test_the_flood_of_one_tenant_is_answered_kindly_and_stops_nobody_elses_links(
    tmp_path: Path, keyring: KeyRing
) -> None:
    snapshots = tuple(PolicySnapshot(number, name=str(number)) for number in (1001, 1002))
    with serve(tmp_path, keyring, snapshots=snapshots, limits=Limits(per_tenant=20)) as served:
        with httpx.Client() as client:
            answers = [client.get(served.link(f"https://good.example/{number}")) for number in range(30)]
            others = [client.get(served.link(f"https://g.example/{n}", tenant_no=1002)) for n in range(10)]
        assert [answer.status_code for answer in answers].count(302) == 20
        assert {answer.status_code for answer in others} == {302}
        last = answers[-1]
        assert (last.status_code, last.headers["retry-after"]) == (429, "60")
        assert 'data-page="limited"' in last.text
        assert (served.gateway.stats.limited, served.gateway.stats.limited_tenant) == (10, 10)


def test_a_click_from_a_data_centre_says_so_and_the_address_is_not_kept_for_it(
    tmp_path: Path, keyring: KeyRing
) -> None:
    networks = tmp_path / "networks.txt"
    networks.write_text("127.0.0.0/8\n")
    with serve(tmp_path, keyring, snapshots=(SNAPSHOT,), datacentre_networks=networks) as served:
        httpx.get(served.link("https://good.example/"))
        (event,) = events(served)
    assert event["datacentre"] is True
    assert "address" not in event
