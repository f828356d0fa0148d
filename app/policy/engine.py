"""What happens to a URL: the tenant's lists first, then the verdict. PURE.

The first entry by position that applies decides. ``block`` and ``lock`` apply where any address of the chain
matches (the one written, what a wrapper holds, where redirects end); ``allow`` and ``ignore`` only where the
*last* one does, so that allowing a wrapper does not allow whatever is put behind it. Every decision carries the
trace of how it came about (L3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from app.kit.errors import Refused
from app.policy.curated import CURATED_HOSTS
from app.policy.patterns import Address, Expression, Wildcard, address, compile_pattern, pattern_excerpt
from app.policy.trace import Step
from app.tenants.levels import LEVEL_FROM, level_from


class Stage(StrEnum):
    """When the question is asked."""

    DELIVERY = "delivery"
    CLICK = "click"


class Action(StrEnum):
    """What is done: the first two at delivery, the others at the click."""

    REWRITE = "rewrite"
    IGNORE = "ignore"
    REDIRECT = "redirect"
    WARN = "warn"
    BLOCK = "block"
    LOCK = "lock"
    WAIT = "wait"


LIST_ACTIONS: Final = ("allow", "block", "ignore", "lock")
"""What an entry of a list can say."""

LEVEL_ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {"clean": Action.REDIRECT, "unknown": Action.REDIRECT, "suspicious": Action.WARN, "malicious": Action.BLOCK}
)
"""What a verdict means where the tenant says nothing else."""

_CLICK_ACTIONS: Final = frozenset({Action.REDIRECT, Action.WARN, Action.BLOCK, Action.LOCK})


@dataclass(frozen=True, slots=True)
class ListRule:
    """One entry of a tenant's list, as stored."""

    id: int
    action: str
    kind: str
    pattern: str
    position: int = 0

    @property
    def label(self) -> str:
        """How the entry is named in a click's record and in a trace."""
        return f"list:{self.id} {self.action} {pattern_excerpt(self.pattern)}"


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """The question.

    Attributes:
        stage: Delivery or click.
        urls: The address as written first, then each one found behind it; the last is where it ends.
        level: The verdict's level; not asked for at delivery.
        degraded: The verdict lacks a source that should have answered.
    """

    stage: Stage
    urls: tuple[str, ...]
    level: str = "unknown"
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer.

    Attributes:
        action: What to do.
        rule: What decided: ``list:<id> <action> <pattern>``, ``verdict:<level>``, ``failure:<policy>``,
            ``own-domain``, ``curated`` or ``default``.
        trace: How it came about; the ``str`` of a step is English.
    """

    action: Action
    rule: str
    trace: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class PageWords:
    """What a tenant says on the gateway's pages (L22). All of it is shown as text, never as markup."""

    locale: str = ""
    contact: str = ""
    note: str = ""
    accent: str = ""
    block_url: str = ""
    logo: str = ""
    """A PNG in base64; see ``app.gateway.assets``."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    order: int
    rule: ListRule
    pattern: Wildcard | Expression


@dataclass(frozen=True)
class PolicySnapshot:
    """Everything a decision needs for one tenant, immutable.

    Attributes:
        tenant_no: The number in link tokens.
        tenant_id: As text.
        name: The organisation, for the pages.
        rules: The lists, by position.
        levels: Level -> action at the click.
        failure: ``open`` (warn and let through) or ``closed`` (block) where a verdict is degraded.
        own_domains: The tenant's mail domains: their links are not rewritten.
        words: For the pages.
        keep_address: Whether a click's record holds the client address (L23).
        expired_below: Links of messages with a lower number have outlived the tenant's time for links; 0: none has.
        level_from: From how many points on a verdict is ``suspicious``, and ``malicious``.
    """

    tenant_no: int
    tenant_id: str = ""
    name: str = ""
    rules: tuple[ListRule, ...] = ()
    levels: Mapping[str, Action] = field(default_factory=lambda: dict(LEVEL_ACTIONS))
    failure: str = "open"
    own_domains: frozenset[str] = frozenset()
    words: PageWords = PageWords()
    keep_address: bool = False
    expired_below: int = 0
    level_from: tuple[int, int] = LEVEL_FROM
    problems: tuple[str, ...] = field(default=(), init=False, compare=False)
    _by_host: Mapping[str, tuple[_Compiled, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _expressions: tuple[_Compiled, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_host: dict[str, list[_Compiled]] = {}
        expressions: list[_Compiled] = []
        problems: list[str] = []
        for order, rule in enumerate(sorted(self.rules, key=lambda rule: (rule.position, rule.id))):
            try:
                pattern = compile_pattern(rule.kind, rule.pattern)
            except Refused as error:
                problems.append(f"{rule.label}: {error}")
                continue
            compiled = _Compiled(order, rule, pattern)
            if isinstance(pattern, Wildcard):
                by_host.setdefault(pattern.host, []).append(compiled)
            else:
                expressions.append(compiled)
        object.__setattr__(self, "problems", tuple(problems))
        object.__setattr__(self, "_by_host", {host: tuple(found) for host, found in by_host.items()})
        object.__setattr__(self, "_expressions", tuple(expressions))

    @property
    def has_lists(self) -> bool:
        """Whether any entry could decide."""
        return bool(self._by_host or self._expressions)

    def decide(self, context: PolicyContext) -> Decision:
        """Decide, and say how it came about."""
        trace: list[Step] = []
        listed = self._listed(context, trace) if self.has_lists else None
        if context.stage is Stage.DELIVERY:
            return self._at_delivery(context, listed, trace)
        if listed is not None:
            action = {"allow": Action.REDIRECT, "block": Action.BLOCK, "lock": Action.LOCK}[listed.action]
            return Decision(action, listed.label, tuple(trace))
        action = self.levels.get(context.level, LEVEL_ACTIONS.get(context.level, Action.WARN))
        rule = f"verdict:{context.level}"
        trace.append(Step("verdict", {"level": context.level, "action": action.value}))
        if context.degraded and action is Action.REDIRECT and context.level != "clean":
            action = Action.BLOCK if self.failure == "closed" else Action.WARN
            rule = f"failure:{self.failure}"
            trace.append(Step("degraded", {"failure": self.failure, "action": action.value}))
        return Decision(action, rule, tuple(trace))

    def at_click(self, urls: tuple[str, ...], level: str, *, degraded: bool = False) -> Decision:
        """Decide about a click; short for :meth:`decide`."""
        return self.decide(PolicyContext(Stage.CLICK, urls, level, degraded))

    def _at_delivery(self, context: PolicyContext, listed: ListRule | None, trace: list[Step]) -> Decision:
        if listed is not None:
            action = Action.IGNORE if listed.action == "ignore" else Action.REWRITE
            return Decision(action, listed.label, tuple(trace))
        targets = [address(url) for url in context.urls]
        hosts = [target.host for target in targets if target is not None]
        if hosts and len(hosts) == len(targets):
            if all(_is_below(host, self.own_domains) for host in hosts):
                trace.append(Step("own_domain", {"host": hosts[-1]}))
                return Decision(Action.IGNORE, "own-domain", tuple(trace))
            if all(host in CURATED_HOSTS for host in hosts):
                trace.append(Step("curated", {"host": hosts[-1]}))
                return Decision(Action.IGNORE, "curated", tuple(trace))
        trace.append(Step("rewritten"))
        return Decision(Action.REWRITE, "default", tuple(trace))

    def _listed(self, context: PolicyContext, trace: list[Step]) -> ListRule | None:
        """The first entry by position that applies."""
        last = len(context.urls) - 1
        found: dict[int, tuple[ListRule, bool, str]] = {}
        for index, url in enumerate(context.urls):
            target = address(url)
            if target is None:
                continue
            for compiled in self._matching(target):
                before = found.get(compiled.order)
                found[compiled.order] = (compiled.rule, index == last or bool(before and before[1]), target.host)
        for order in sorted(found):
            rule, at_the_end, host = found[order]
            if rule.action not in LIST_ACTIONS:
                code = "unknown_action"
            elif rule.action == "ignore" and context.stage is Stage.CLICK:
                code = "delivery_only"
            elif rule.action in ("allow", "ignore") and not at_the_end:
                code = "not_the_end"
            else:
                code = "decides"
            trace.append(Step(code, {"rule": rule.label, "host": host}))
            if code == "decides":
                return rule
        return None

    def _matching(self, target: Address) -> Iterable[_Compiled]:
        host = target.host
        while True:
            for compiled in self._by_host.get(host, ()):
                pattern = compiled.pattern
                if isinstance(pattern, Wildcard) and pattern.matches(target):
                    yield compiled
            _, dot, host = host.partition(".")
            if not dot:
                break
        for compiled in self._expressions:
            if compiled.pattern.matches(target):
                yield compiled

    def as_json(self) -> dict[str, Any]:
        """JSON form, for the copy on disk."""
        return {
            "tenant_no": self.tenant_no,
            "tenant_id": self.tenant_id,
            "name": self.name,
            "rules": [[rule.id, rule.action, rule.kind, rule.pattern, rule.position] for rule in self.rules],
            "levels": {level: action.value for level, action in self.levels.items()},
            "failure": self.failure,
            "own_domains": sorted(self.own_domains),
            "words": {name: getattr(self.words, name) for name in PageWords.__dataclass_fields__},
            "keep_address": self.keep_address,
            "expired_below": self.expired_below,
            "level_from": {"suspicious": self.level_from[0], "malicious": self.level_from[1]},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicySnapshot:
        """The inverse of :meth:`as_json`.

        Raises:
            KeyError, TypeError, ValueError: Not such a form.
        """
        return cls(
            tenant_no=int(data["tenant_no"]),
            tenant_id=str(data["tenant_id"]),
            name=str(data["name"]),
            rules=tuple(
                ListRule(int(number), str(action), str(kind), str(pattern), int(position))
                for number, action, kind, pattern, position in data["rules"]
            ),
            levels={str(level): Action(action) for level, action in data["levels"].items()},
            failure=str(data["failure"]),
            own_domains=frozenset(map(str, data["own_domains"])),
            words=page_words(data["words"]),
            keep_address=bool(data["keep_address"]),
            expired_below=int(data.get("expired_below", 0)),
            level_from=level_from(data.get("level_from")),
        )


def level_actions(settings: object) -> dict[str, Action]:
    """Level -> action from a tenant's settings; what is not understood stays at the default."""
    levels = dict(LEVEL_ACTIONS)
    if isinstance(settings, Mapping):
        for level, action in settings.items():
            if level in levels and action in _CLICK_ACTIONS:
                levels[level] = Action(action)
    return levels


def page_words(settings: object) -> PageWords:
    """Page words from a tenant's settings; anything that is no text is left out."""
    if not isinstance(settings, Mapping):
        return PageWords()
    known = {name: settings[name] for name in PageWords.__dataclass_fields__ if isinstance(settings.get(name), str)}
    return PageWords(**known)


def _is_below(host: str, domains: frozenset[str]) -> bool:
    while host:
        if host in domains:
            return True
        host = host.partition(".")[2]
    return False
