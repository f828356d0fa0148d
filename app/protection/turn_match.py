"""What an incident is about, and which addresses that covers. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.kit.errors import Refused
from app.messages.hosts import host_of
from app.policy.engine import Action, ListRule, PolicyContext, PolicySnapshot, Stage
from app.policy.patterns import Wildcard, address, compile_pattern
from app.verdicts.canonical import NotCanonical, lookup_expressions, lookup_parts
from app.verdicts.feed import LISTED_WEIGHT, entry_expression
from app.verdicts.heuristics import embedded_target, open_chain
from app.verdicts.judge import InlineSource
from app.verdicts.scoring import Level, Signal

MAX_SUBJECT: Final = 500
_RULE: Final = "list:"
REPORTED: Final = frozenset({"reported_phishing", "reported_malware", "reported_botnet"})
"""Signals by which a service says that a site is malicious."""
EXACT: Final = "exact"
"""The page found bad is named by more than host and path, or is not on the link's own site. So a newsletter's
redirector would be taken for bad with all that it leads to: such a finding covers that very address alone, and never
moves mail by itself."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What turned.

    Attributes:
        kind: ``listed``, ``rule`` or ``checked``; see :class:`app.protection.incident_models.Incident`.
        text: Entry, pattern, or host and path (:data:`EXACT`: with the query).
        pattern_kind: Of a rule; :data:`EXACT` where what was ``checked`` is one address and no other.
        host: Which links to look at; empty: all.
    """

    kind: str
    text: str
    pattern_kind: str = ""
    host: str = ""

    def matcher(self) -> Callable[[str], bool]:
        """Tells whether an address is covered, wrappers opened."""
        covers = self._covers()

        def matches(url: str) -> bool:
            return any(covers(found) for found in addresses_in(url))

        return matches

    def _covers(self) -> Callable[[str], bool]:
        if self.pattern_kind == EXACT:
            return lambda url: _exact(url) == self.text
        if self.kind == "rule":
            try:
                pattern = compile_pattern(self.pattern_kind, self.text)
            except Refused:
                return lambda url: False

            def by_rule(url: str) -> bool:
                target = address(url)
                return target is not None and pattern.matches(target)

            return by_rule

        def by_expression(url: str) -> bool:
            try:
                return self.text in lookup_expressions(url)
            except NotCanonical:
                return False

        return by_expression


def addresses_in(url: str) -> tuple[str, ...]:
    """The address, those that its wrappers hold, and the one that it carries along."""
    chain, _ = open_chain(url)
    carried = embedded_target(chain[-1])
    return chain if carried is None else (*chain, carried)


def rule_subject(rule: ListRule) -> Subject:
    """The subject of an entry of the tenant's list."""
    return pattern_subject(rule.kind, rule.pattern)


def pattern_subject(kind: str, pattern: str) -> Subject:
    """The subject of a pattern; one that does not compile covers nothing."""
    try:
        compiled = compile_pattern(kind, pattern)
    except Refused:
        compiled = None
    host = compiled.host if isinstance(compiled, Wildcard) else ""
    return Subject("rule", pattern[:MAX_SUBJECT], kind, host)


def listed_subject(entry: str) -> Subject | None:
    """The subject of a listed entry as evidence shows it; None where it is none."""
    try:
        expression = entry_expression(entry)
    except NotCanonical:
        return None
    return _expression("listed", expression)


def checked_subject(url: str, end: str = "") -> Subject | None:
    """The subject of an address that a check at the click found bad.

    Args:
        url: As it stood in the message.
        end: The host that it led to in the end; empty: not known to be another.
    """
    address_found = addresses_in(url)[-1]
    try:
        hosts, path, query = lookup_parts(address_found)
    except NotCanonical:
        return None
    if query is None and end in ("", host_of(address_found)):
        return _expression("checked", hosts[0] + path)
    return _expression("checked", _exact(address_found), EXACT)


def _exact(url: str) -> str:
    """Host, path and query; empty for what is no web address."""
    try:
        hosts, path, query = lookup_parts(url)
    except NotCanonical:
        return ""
    return hosts[0] + path + ("" if query is None else f"?{query}")


def _expression(kind: str, expression: str, pattern_kind: str = "") -> Subject | None:
    if len(expression) > MAX_SUBJECT:
        return None
    return Subject(kind, expression, pattern_kind, expression.partition("/")[0])


def click_subject(
    url: str, rule: str, evidence: Sequence[Any], rules: Mapping[int, ListRule], end: str = ""
) -> Subject | None:
    """What a stopped click was about; None where it is nobody's incident (an address that is no web address).

    Args:
        url: As it stood in the message.
        rule: What decided.
        evidence: As kept with the click.
        rules: The tenant's list by number.
        end: The host where the link led in the end; empty: not known.
    """
    if rule.startswith(_RULE):
        found = rules.get(_rule_number(rule))
        return None if found is None else rule_subject(found)
    for item in evidence:
        code = str(item.get("code", "")) if isinstance(item, Mapping) else ""
        listed = code.startswith(f"listed_{Level.MALICIOUS.value}")
        # What a service reports without deciding (less weight, less level) is no finding of its own.
        if listed or (code in REPORTED and item.get("weight") == LISTED_WEIGHT[Level.MALICIOUS]):
            fields = item.get("fields")
            entry = fields.get("entry") if isinstance(fields, Mapping) else None
            subject = listed_subject(str(entry)) if entry else None
            if subject is not None and (listed or subject.matcher()(url)):
                return subject
    return checked_subject(url, end) if rule == f"verdict:{Level.MALICIOUS.value}" else None


def list_hit(
    url: str, lists: InlineSource, snapshot: PolicySnapshot
) -> tuple[Subject, tuple[dict[str, Any], ...]] | None:
    """Whether the lists of now say that an address is bad, and the evidence.

    The tenant's own list comes first, as at a click: what it allows is no incident.
    """
    chain, _ = open_chain(url)
    if snapshot.has_lists:
        decision = snapshot.decide(PolicyContext(Stage.CLICK, chain))
        if decision.rule.startswith(_RULE):
            rule = next((rule for rule in snapshot.rules if rule.id == _rule_number(decision.rule)), None)
            return (rule_subject(rule), ()) if rule is not None and decision.action is Action.BLOCK else None
    for found in addresses_in(url):
        for signal in lists.signals(found):
            if signal.decides is Level.MALICIOUS:
                subject = listed_subject(dict(signal.fields).get("entry", "")) or checked_subject(found)
                if subject is not None:
                    return subject, (signal.as_json(),)
    return None


def reported(url: str, signals: Iterable[Signal]) -> tuple[Subject, Signal] | None:
    """What services say to be malicious about an address, and what that is about; None where they say no such thing."""
    for signal in signals:
        if signal.decides is Level.MALICIOUS and signal.code in REPORTED:
            subject = listed_subject(dict(signal.fields).get("entry", ""))
            if subject is not None and subject.matcher()(url):
                return subject, signal
    return None


def decided_by_own_list(url: str, snapshot: PolicySnapshot) -> bool:
    """Whether the tenant's own list says what becomes of an address, whatever others think of it."""
    if not snapshot.has_lists:
        return False
    chain, _ = open_chain(url)
    return snapshot.decide(PolicyContext(Stage.CLICK, chain)).rule.startswith(_RULE)


def release_pattern(subject: Subject) -> str:
    """The pattern of an entry that allows what an incident was about; empty where there is none to make."""
    if subject.kind == "rule":
        return subject.text
    # Lists compare a query only in their own way; a whole page is allowed for the sake of one address of it, and
    # only where a link ends there: what a redirector leads to is judged as before.
    host, _, path = subject.text.partition("?")[0].partition("/")
    if not path:
        return host
    exact = "" if host_of(f"http://{host}/") is None else host
    return f"{exact}/{path}" if exact and "*" not in path else host


def _rule_number(label: str) -> int:
    text = label.removeprefix(_RULE).partition(" ")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
