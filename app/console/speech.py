"""Everything that templates say, in one language: texts, names of states, evidence, rules, steps, audit lines."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from app.audit.models import AuditEntry
from app.console import facts, words
from app.console.text import visible
from app.kit.i18n import translator
from app.policy.trace import RULES, STEPS, Step, fill, rule_parts
from app.verdicts.sentences import SENTENCES, sentence


class Speech:
    """The console's words in the language of a reader. What it gives is text, to be escaped, but for :meth:`facts`.

    Args:
        locale: The language.
    """

    def __init__(self, locale: str) -> None:
        self._words = translator(locale, "console")
        self._evidence = translator(locale, "gateway")

    def say(self, message: str, **values: object) -> str:
        """``_()`` of the templates: translates, then fills in ``%(name)s``."""
        text = self._words.gettext(message)
        return text % values if values else text

    def plural(self, singular: str, plural: str, n: int, **values: object) -> str:
        """``ngettext()`` of the templates; ``%(n)s`` is the count."""
        return self._words.ngettext(singular, plural, n) % {"n": f"{n:,}", **values}

    def name(self, table: str, key: object) -> str:
        """What a key of a table is called; one of another version as it is."""
        known = words.TABLES[table].get(str(key))
        return self.say(known) if known else visible(key, 60)

    def evidence(self, item: object) -> str:
        """A signal or finding in words; kept without code or by a later version, as it was kept."""
        if not isinstance(item, Mapping):
            return str(item)
        code, fields = str(item.get("code", "")), item.get("fields") or item.get("evidence") or {}
        if code in SENTENCES and isinstance(fields, Mapping):
            said = sentence(code, fields, self._evidence.gettext)
            if said != code:
                return said
        return str(item.get("text") or item.get("message") or code)

    def rule(self, rule: str) -> str:
        """What decided, in words; a rule of a later version as it was kept."""
        kind, fields = rule_parts(rule)
        return fill(self.say(RULES[kind]), fields, self._field) if kind in RULES else visible(rule, 200)

    def step(self, step: Step) -> str:
        """One step of how a decision came about."""
        return fill(self.say(STEPS[step.code]), step.fields, self._field)

    def _field(self, key: str, value: str) -> str:
        if key == "rule":
            return self.rule(value)
        table = "outcome" if key == "action" else key
        return self.name(table, value) if table in words.TABLES else visible(value, 120)

    def act(self, action: str) -> str:
        """What was done, as the audit log tells it."""
        return facts.act_in_words(action, self.name)

    def facts(self, entry: AuditEntry) -> list[tuple[str, Markup]]:
        """The details of an audit line."""
        return facts.facts_in_words(entry.action, entry.detail, self.name)
