"""How a decision came about, in steps that can be said in any language."""

from __future__ import annotations

import string

import pytest

from app.policy.engine import Decision, ListRule, PolicyContext, PolicySnapshot, Stage
from app.policy.trace import RULES, STEPS, Step, rule_parts

WRAPPED = ("https://wrapper.example/?u=x", "https://evil.example/")


def decided(*rules: tuple[str, str], stage: Stage = Stage.CLICK, urls: tuple[str, ...] = WRAPPED) -> Decision:
    made = tuple(ListRule(at, action, "wildcard", pattern, at) for at, (action, pattern) in enumerate(rules, 1))
    snapshot = PolicySnapshot(1, rules=made, own_domains=frozenset({"own.example"}))
    return snapshot.decide(PolicyContext(stage, urls, "unknown", degraded=True))


@pytest.mark.parametrize(
    ("decision", "codes", "last"),
    [
        (
            decided(("allow", "wrapper.example"), ("ignore", "evil.example"), ("odd", "evil.example")),
            ["not_the_end", "delivery_only", "unknown_action", "verdict", "degraded"],
            "Not every source answered; the failure policy is “open”: warn.",
        ),
        (
            decided(("block", "evil.example")),
            ["decides"],
            "list:1 block evil.example matches evil.example and decides.",
        ),
        (
            decided(stage=Stage.DELIVERY, urls=("https://mail.own.example/",)),
            ["own_domain"],
            "mail.own.example belongs to the organisation: left as it is.",
        ),
        (
            decided(stage=Stage.DELIVERY, urls=("https://www.ietf.org/",)),
            ["curated"],
            "www.ietf.org is on the list that comes with Postern: left as it is.",
        ),
        (decided(stage=Stage.DELIVERY), ["rewritten"], "Nothing exempts the link: rewritten."),
    ],
)
def test_every_step_has_its_code_and_an_english_sentence(decision: Decision, codes: list[str], last: str) -> None:
    assert [step.code for step in decision.trace] == codes
    assert str(decision.trace[-1]) == last


def test_steps_carry_what_their_sentences_name_and_no_more() -> None:
    everything = (
        decided(("allow", "wrapper.example"), ("ignore", "evil.example"), ("odd", "evil.example")),
        decided(("block", "evil.example")),
        *(decided(stage=Stage.DELIVERY, urls=(url,)) for url in ("https://own.example", "https://www.ietf.org", "x")),
    )
    steps = [step for decision in everything for step in decision.trace]
    assert {step.code for step in steps} == set(STEPS)
    for step in steps:
        assert {name for _, name, _, _ in string.Formatter().parse(STEPS[step.code]) if name} == set(step.fields)


def test_braces_of_a_hostile_host_stay_what_they_are() -> None:
    assert str(Step("own_domain", {"host": "{rule}"})) == "{rule} belongs to the organisation: left as it is."


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (
            "list:12 block *.evil.example/a b",
            ("list", {"number": "12", "list": "block", "pattern": "*.evil.example/a b"}),
        ),
        ("verdict:malicious", ("verdict", {"level": "malicious"})),
        ("failure:closed", ("failure", {"failure": "closed"})),
        ("own-domain", ("own-domain", {})),
        ("of a later version", ("of a later version", {})),
        ("", ("", {})),
    ],
)
def test_a_rule_is_taken_apart(rule: str, parts: tuple[str, dict[str, str]]) -> None:
    kind, fields = rule_parts(rule)
    assert (kind, dict(fields)) == parts
    if kind in RULES:
        assert {name for _, name, _, _ in string.Formatter().parse(RULES[kind]) if name} == set(fields)
