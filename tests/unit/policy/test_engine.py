from __future__ import annotations

import json

import pytest

from app.policy.engine import (
    Action,
    ListRule,
    PageWords,
    PolicyContext,
    PolicySnapshot,
    Stage,
    level_actions,
    page_words,
)


def snapshot(*rules: tuple[str, str], **more: object) -> PolicySnapshot:
    made = tuple(
        ListRule(number, action, "wildcard", pattern, number) for number, (action, pattern) in enumerate(rules, 1)
    )
    return PolicySnapshot(1001, "id", "Contoso", rules=made, **more)  # type: ignore[arg-type]  # keywords of any field


def click(policy: PolicySnapshot, *urls: str, level: str = "unknown", degraded: bool = False) -> tuple[Action, str]:
    decision = policy.decide(PolicyContext(Stage.CLICK, urls, level, degraded))
    assert decision.trace
    return decision.action, decision.rule


@pytest.mark.parametrize(
    ("level", "action"),
    [
        ("clean", Action.REDIRECT),
        ("unknown", Action.REDIRECT),
        ("suspicious", Action.WARN),
        ("malicious", Action.BLOCK),
        ("something new", Action.WARN),
    ],
)
def test_without_lists_the_verdict_decides(level: str, action: Action) -> None:
    assert click(snapshot(), "https://x.example/", level=level) == (action, f"verdict:{level}")


def test_the_first_entry_by_position_decides() -> None:
    allow_first = snapshot(("allow", "a.example"), ("block", "a.example"))
    block_first = snapshot(("block", "a.example"), ("allow", "a.example"))
    assert click(allow_first, "https://a.example/", level="malicious") == (Action.REDIRECT, "list:1 allow a.example")
    assert click(block_first, "https://a.example/", level="clean") == (Action.BLOCK, "list:1 block a.example")


def test_position_goes_before_the_order_of_entry() -> None:
    rules = (ListRule(1, "block", "wildcard", "a.example", 5), ListRule(2, "allow", "wildcard", "a.example", -1))
    assert click(PolicySnapshot(1, rules=rules), "https://a.example/")[1] == "list:2 allow a.example"


def test_blocking_counts_anywhere_in_the_chain_and_allowing_only_at_its_end() -> None:
    wrapped = ("https://wrapper.example/?u=x", "https://evil.example/")
    assert click(snapshot(("block", "wrapper.example")), *wrapped)[0] is Action.BLOCK
    assert click(snapshot(("block", "evil.example")), *wrapped)[0] is Action.BLOCK
    assert click(snapshot(("allow", "wrapper.example")), *wrapped, level="malicious")[0] is Action.BLOCK
    assert click(snapshot(("allow", "evil.example")), *wrapped, level="malicious")[0] is Action.REDIRECT


def test_locking_holds_the_link() -> None:
    assert click(snapshot(("lock", "a.example")), "https://a.example/")[0] is Action.LOCK


def test_ignoring_concerns_delivery_alone() -> None:
    policy = snapshot(("ignore", "a.example"))
    assert click(policy, "https://a.example/", level="malicious")[0] is Action.BLOCK
    decision = policy.decide(PolicyContext(Stage.DELIVERY, ("https://a.example/x",)))
    assert (decision.action, decision.rule) == (Action.IGNORE, "list:1 ignore a.example")


@pytest.mark.parametrize("action", ["allow", "block", "lock"])
def test_whatever_else_is_listed_is_rewritten_at_delivery(action: str) -> None:
    policy = snapshot((action, "own.example"), own_domains=frozenset({"own.example"}))
    assert policy.decide(PolicyContext(Stage.DELIVERY, ("https://own.example/",))).action is Action.REWRITE


def test_own_domains_and_the_shipped_list_are_left_at_delivery() -> None:
    policy = snapshot(own_domains=frozenset({"own.example"}))

    def rule(*urls: str) -> str:
        return policy.decide(PolicyContext(Stage.DELIVERY, urls)).rule

    assert rule("https://intranet.own.example/") == "own-domain"
    assert rule("https://www.ietf.org/rfc") == "curated"
    assert rule("https://notown.example/") == "default"
    assert rule("https://sub.www.ietf.org/") == "default"
    assert rule("https://own.example/?u=x", "https://evil.example/") == "default"
    assert rule("http://[") == "default"


def test_the_failure_policy_counts_where_a_verdict_is_degraded() -> None:
    assert click(snapshot(failure="open"), "https://a.example/", degraded=True) == (Action.WARN, "failure:open")
    assert click(snapshot(failure="closed"), "https://a.example/", degraded=True) == (Action.BLOCK, "failure:closed")
    assert click(snapshot(failure="closed"), "https://a.example/", level="clean", degraded=True)[0] is Action.REDIRECT
    assert (
        click(snapshot(("allow", "a.example"), failure="closed"), "https://a.example/", degraded=True)[0]
        is Action.REDIRECT
    )


def test_a_tenants_levels_replace_the_defaults_where_they_make_sense() -> None:
    levels = level_actions({"suspicious": "block", "unknown": "rewrite", "malicious": 7, "other": "block"})
    assert levels["suspicious"] is Action.BLOCK
    assert levels["unknown"] is Action.REDIRECT
    assert levels["malicious"] is Action.BLOCK
    assert set(levels) == {"clean", "unknown", "suspicious", "malicious"}
    assert level_actions(None) == level_actions([])


def test_page_words_take_only_text() -> None:
    assert page_words({"contact": "IT", "note": 5, "evil": "x"}) == PageWords(contact="IT")
    assert page_words("x") == PageWords()


def test_an_entry_that_does_not_compile_is_passed_over_and_named() -> None:
    rules = (ListRule(1, "block", "re2", "(", 0), ListRule(2, "block", "wildcard", "a.example", 1))
    policy = PolicySnapshot(1, rules=rules)
    assert len(policy.problems) == 1
    assert "list:1 block (" in policy.problems[0]
    assert click(policy, "https://a.example/")[0] is Action.BLOCK


def test_an_expression_and_a_host_share_one_order() -> None:
    rules = (ListRule(1, "allow", "re2", r"/public/", 0), ListRule(2, "block", "wildcard", "a.example", 1))
    policy = PolicySnapshot(1, rules=rules)
    assert click(policy, "https://a.example/public/x")[0] is Action.REDIRECT
    assert click(policy, "https://a.example/private")[0] is Action.BLOCK


def test_the_copy_on_disk_decides_the_same() -> None:
    policy = snapshot(
        ("allow", "a.example"),
        ("block", "b.example"),
        levels=level_actions({"suspicious": "lock"}),
        failure="closed",
        own_domains=frozenset({"own.example"}),
        words=PageWords("de", "IT", "n", "#123456", "https://x.example/"),
        keep_address=True,
    )
    again = PolicySnapshot.from_json(json.loads(json.dumps(policy.as_json())))
    assert again == policy
    assert click(again, "https://b.example/") == click(policy, "https://b.example/")


def test_ten_thousand_entries_are_looked_up_by_host() -> None:
    rules = tuple(ListRule(number, "block", "wildcard", f"h{number}.example", number) for number in range(10_000))
    policy = PolicySnapshot(1, rules=rules)
    assert click(policy, "https://x.h9999.example/")[1] == "list:9999 block h9999.example"
    assert click(policy, "https://x.example/")[0] is Action.REDIRECT
