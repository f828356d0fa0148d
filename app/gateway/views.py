"""What the gateway's pages say: one function per page, words in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.gateway.destination import Destination, destination
from app.kit.i18n import Translator
from app.policy.trace import fill, rule_parts
from app.verdicts.advisories import Advisory, advisories
from app.verdicts.scoring import Level, Signal, Verdict
from app.verdicts.sentences import readable, sentence


@dataclass(frozen=True)
class View:
    """What a page says.

    Attributes:
        page: Kind of page; also in the markup, for tests and screen shots.
        tone: ``bad``, ``warn``, ``held``, ``good`` or ``info``: the icon beside the word.
        word: One word of what happened; never colour alone.
        heading: One sentence.
        lines: What happened and what to do.
        reasons: Evidence, one sentence each.
        where: The destination to show.
        keys: Act -> signature of its button.
        facts: Names and values, folded away.
        level: Verdict level, for the markup.
        link: What was pasted (explain page).
        leaves: Whether a form of this page ends outside of the gateway.
        advisories: What must be said where a service gave the reasons.
    """

    page: str
    tone: str
    word: str
    heading: str
    lines: Sequence[str] = ()
    reasons: Sequence[str] = ()
    where: Destination | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    level: str = ""
    link: str = ""
    leaves: bool = False
    advisories: Sequence[Advisory] = ()


def evidence(verdict: Verdict, words: Translator) -> list[str]:
    """The verdict's reasons in the reader's language, heaviest first; those that weigh nothing last."""
    return [sentence(signal.code, dict(signal.fields), words.gettext) for signal in shown_signals(verdict)]


def shown_signals(verdict: Verdict) -> list[Signal]:
    """The signals that a page shows."""
    ordered = sorted(verdict.signals, key=lambda signal: -signal.weight)
    return ([signal for signal in ordered if signal.weight >= 10] or ordered)[:6]


def level_words(level: Level, words: Translator) -> str:
    """A level in words. Never "safe": only what was found, or not."""
    _ = words.gettext
    return {
        Level.CLEAN: _("No threat found; the site is known"),
        Level.UNKNOWN: _("No threat found; the site is not known"),
        Level.SUSPICIOUS: _("Suspicious"),
        Level.MALICIOUS: _("Dangerous"),
    }[level]


def facts(verdict: Verdict, words: Translator, rule: str = "") -> list[tuple[str, str]]:
    """What is folded away under "Details"."""
    _ = words.gettext
    found = [
        (_("Verdict"), level_words(verdict.level, words)),
        (_("Score"), f"{verdict.score} / 100"),
        (_("Checked at"), at_time(verdict.checked_at)),
    ]
    kind, fields = rule_parts(rule)
    if kind == "list":
        entry = _("Entry {number} of the organisation's list: {pattern}")
        found.append((_("Decided by"), fill(entry, fields, lambda _name, value: readable(value))))
    return found


def at_time(moment: datetime) -> str:
    """A time as everybody reads it; the page cannot know the reader's zone without a script."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def warning(verdict: Verdict, words: Translator, keys: Mapping[str, str], rule: str) -> View:
    """Something does not look right; there is a way on."""
    _ = words.gettext
    return View(
        page="warn",
        tone="warn",
        word=_("Warning"),
        heading=_("This link looks suspicious"),
        lines=(
            _("Something about this link does not look right, so it was not opened at once."),
            _(
                "If you did not expect the message, do not go on. If you are not sure, ask the sender in "
                "another way than by answering the message."
            ),
        ),
        reasons=evidence(verdict, words) or [_("Not everything about this link could be checked.")],
        where=destination(verdict.final_url),
        keys=keys,
        facts=facts(verdict, words, rule),
        advisories=advisories(shown_signals(verdict)),
        level=verdict.level.value,
        leaves=True,
    )


def blocked(verdict: Verdict, words: Translator, org: str, keys: Mapping[str, str], rule: str, *, listed: bool) -> View:
    """No way through."""
    _ = words.gettext
    where = destination(verdict.final_url)
    stopped = (
        _("{org} stopped this link, so nothing was opened.").format(org=org)
        if org
        else _("This link was stopped, so nothing was opened.")
    )
    reasons = evidence(verdict, words)
    if listed:
        barred = _("Your organisation does not allow links to {host}.")
        reasons = [barred.format(host=where.lead + where.name), *reasons]
    return View(
        page="block",
        tone="bad",
        word=_("Blocked"),
        heading=_("This link was blocked"),
        lines=(stopped, _("You do not need to do anything. If you need the page, ask for its release.")),
        reasons=reasons or [_("Not everything about this link could be checked.")],
        where=where,
        keys=keys,
        facts=facts(verdict, words, rule),
        advisories=advisories(shown_signals(verdict)),
        level=verdict.level.value,
    )


def locked(verdict: Verdict, words: Translator, keys: Mapping[str, str], rule: str) -> View:
    """Held until an administrator releases it."""
    _ = words.gettext
    where = destination(verdict.final_url)
    reasons = evidence(verdict, words)
    if rule.startswith("list:"):
        holding = _("Your organisation's own list holds links to {host}.")
        reasons = [holding.format(host=where.lead + where.name), *reasons]
    return View(
        page="lock",
        tone="held",
        word=_("Held"),
        heading=_("This link is held"),
        lines=(
            _("An administrator has to release it before it can be opened."),
            _("If you need the page, ask for its release."),
        ),
        reasons=reasons,
        where=where,
        keys=keys,
        facts=facts(verdict, words, rule),
        advisories=advisories(shown_signals(verdict)),
        level=verdict.level.value,
    )


def waiting(verdict: Verdict, words: Translator, waited: int, keys: Mapping[str, str] | None = None) -> View:
    """The page behind the link is being looked at; this page goes on by itself.

    Args:
        verdict: As far as it is known.
        words: The reader's language.
        waited: How often the page has asked.
        keys: With ``open``, where the tenant lets people open a link that was not checked to the end.
    """
    _ = words.gettext
    lines = [_("This takes a moment. The page goes on by itself.")]
    if waited >= 2:
        lines.append(_("Still looking at the page behind the link, which answers slowly."))
    return View(
        page="wait",
        tone="info",
        word=_("Please wait"),
        heading=_("Checking this link"),
        lines=lines,
        where=destination(verdict.final_url),
        keys=keys or {},
        level=verdict.level.value,
        leaves=bool(keys),
    )


def unusable(url: str, words: Translator) -> View:
    """A genuine link whose target is no web address."""
    _ = words.gettext
    return View(
        page="block",
        tone="bad",
        word=_("Blocked"),
        heading=_("This link does not lead to a web page"),
        lines=(_("What stands in the message is not an address that can be opened, so nothing was opened."),),
        where=destination(url),
        level=Level.SUSPICIOUS.value,
    )


def broken(words: Translator) -> View:
    """A link that does not open. Why exactly is nobody's business."""
    _ = words.gettext
    return View(
        page="broken",
        tone="info",
        word=_("Broken link"),
        heading=_("This link does not work"),
        lines=(
            _("It was cut off or changed on its way, or it is no longer valid."),
            _("A changed link leads nowhere, so nobody can use it to send you somewhere else."),
            _(
                "Open the link in the original message once more. If that does not help, ask the sender to send "
                "it again."
            ),
        ),
    )


def expired(url: str, words: Translator) -> View:
    """A genuine link that has outlived the time for which the organisation lets links work."""
    _ = words.gettext
    return View(
        page="expired",
        tone="info",
        word=_("Expired"),
        heading=_("This link has expired"),
        lines=(
            _("It stood in an old message, and your organisation lets links work for a limited time only."),
            _("If you still need the page, ask the sender for a new link, or your administrator for help."),
        ),
        where=destination(url),
    )


def unavailable(words: Translator) -> View:
    """A link whose stored target cannot be read now."""
    _ = words.gettext
    return View(
        page="unavailable",
        tone="info",
        word=_("Not available"),
        heading=_("This link cannot be opened right now"),
        lines=(_("It is a very long link, and its target cannot be looked up at the moment. Try again in a minute."),),
    )


def limited(words: Translator) -> View:
    """Too many requests."""
    _ = words.gettext
    return View(
        page="limited",
        tone="info",
        word=_("Please wait"),
        heading=_("That was too often"),
        lines=(_("This was opened too often in a short time. Wait a minute, then try again."),),
    )


def stale(words: Translator) -> View:
    """A button that is too old or did not come from here."""
    _ = words.gettext
    return View(
        page="stale",
        tone="info",
        word=_("Page expired"),
        heading=_("This page is too old"),
        lines=(_("Nothing was done. Open the link in your message again."),),
    )


def nothing(words: Translator) -> View:
    """No such page."""
    _ = words.gettext
    return View(
        page="nothing",
        tone="info",
        word="",
        heading=_("There is nothing here"),
        lines=(_("This address checks links in messages. Open a link from a message to use it."),),
    )


def thanks(kind: str, words: Translator, *, stored: bool) -> View:
    """What was said was noted, or could not be."""
    _ = words.gettext
    if not stored:
        return View(
            page="not-stored",
            tone="warn",
            word=_("Not sent"),
            heading=_("Your message could not be stored"),
            lines=(_("Try again in a few minutes, or contact your administrator."),),
        )
    line = (
        _("Your administrator sees your request and decides. Open the link again later.")
        if kind == "release"
        else _("Thank you. Your administrator sees your report.")
    )
    return View(page="thanks", tone="good", word=_("Sent"), heading=_("Your message was sent"), lines=(line,))


def explain(words: Translator, link: str = "", problem: str = "") -> View:
    """The empty form, or one with what went wrong."""
    _ = words.gettext
    lines = [_("Paste a protected link to see where it leads and what is thought of it now. Nothing is opened.")]
    return View(
        page="explain",
        tone="info",
        word="",
        heading=_("Where does this link lead?"),
        lines=[*lines, problem] if problem else lines,
        link=link,
    )


def explained(link: str, verdict: Verdict, words: Translator, action: str, rule: str) -> View:
    """Where a link leads, and what would happen."""
    _ = words.gettext
    happens = {
        "redirect": _("It would be opened."),
        "warn": _("A warning would be shown first."),
        "block": _("It would be blocked."),
        "lock": _("It would be held for an administrator."),
    }
    tones = {Level.MALICIOUS: "bad", Level.SUSPICIOUS: "warn"}
    return View(
        page="explain",
        tone=tones.get(verdict.level, "info"),
        word=level_words(verdict.level, words),
        heading=_("Where this link leads"),
        lines=(happens.get(action, ""),) if action in happens else (),
        reasons=evidence(verdict, words),
        where=destination(verdict.final_url),
        facts=facts(verdict, words, rule),
        advisories=advisories(shown_signals(verdict)),
        level=verdict.level.value,
        link=link,
    )
