"""How a decision came about, in steps that can be said in any language. PURE.

A step is a code and its fields; ``str`` of it is English, for the command line and for JSON. The console translates
the sentence (catalogue ``console``) and what its fields name. Fields are hostile text (hosts, patterns): they are
filled in after translation and escaped by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

STEPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "decides": "{rule} matches {host} and decides.",
        "unknown_action": "{rule} matches {host}, but its action is not known: passed over.",
        "delivery_only": "{rule} matches {host}; it concerns delivery alone.",
        "not_the_end": "{rule} matches {host}, which is not where the link ends: passed over.",
        "verdict": "No list entry decides; the verdict is “{level}”: {action}.",
        "degraded": "Not every source answered; the failure policy is “{failure}”: {action}.",
        "own_domain": "{host} belongs to the organisation: left as it is.",
        "curated": "{host} is on the list that comes with Postern: left as it is.",
        "rewritten": "Nothing exempts the link: rewritten.",
    }
)
"""Code of a step -> English sentence with named fields."""

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "list": "Entry {number} of your list ({list} {pattern})",
        "verdict": "Your choice for the verdict “{level}”",
        "failure": "Your choice for links that cannot be checked: {failure}",
        "own-domain": "Your own domain",
        "curated": "The list that comes with Postern",
        "default": "Nothing exempts the link",
        "no-web-address": "The address is not one of a web page",
    }
)
"""What a rule is called -> the same in a reader's words, with named fields."""


class Step(NamedTuple):
    """One step of a decision.

    Attributes:
        code: A key of :data:`STEPS`.
        fields: For its sentence: ``rule`` as in :class:`app.policy.engine.Decision`, ``host``, ``level``, ``action``,
            ``failure``.
    """

    code: str
    fields: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return fill(STEPS[self.code], self.fields)


def fill(template: str, fields: Mapping[str, str], shown: Callable[[str, str], str] | None = None) -> str:
    """A sentence with its fields.

    Args:
        template: Of :data:`STEPS` or :data:`RULES`, translated or not.
        fields: Their values.
        shown: From name and value to what is shown; None: the value.
    """
    return template.format_map(fields if shown is None else {name: shown(name, fields[name]) for name in fields})


def rule_parts(rule: str) -> tuple[str, Mapping[str, str]]:
    """A rule's name taken apart: a key of :data:`RULES` and the fields of its words; an unknown one is its own key."""
    kind, mark, rest = rule.partition(":")
    if kind == "list" and mark:
        number, _, named = rest.partition(" ")
        action, _, pattern = named.partition(" ")
        return kind, {"number": number, "list": action, "pattern": pattern}
    if kind in ("verdict", "failure") and mark:
        return kind, {"level" if kind == "verdict" else "failure": rest}
    return rule, {}
