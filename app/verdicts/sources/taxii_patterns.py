"""STIX patterns, as far as they say that one web address or host is enough to match. PURE.

Read is the whole grammar of patterns; used is what needs no guess: comparisons of ``url:value`` and
``domain-name:value`` with ``=`` or ``IN``, alone or joined by ``OR`` (any of the parts matches by itself). What needs
more than one observation (``AND``, ``FOLLOWEDBY``, a qualifier), negates, or compares in another way is named and not
used.

Reference: https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html, section 9
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MAX_LENGTH: Final = 20_000
MAX_DEPTH: Final = 40
PATHS: Final = ("url:value", "domain-name:value")

_TOKEN_RE: Final = re.compile(
    r"""
      (?P<space>\s+|/\*.*?\*/|//[^\r\n]*)
    | (?P<typed>[hbt]'(?:[^'\\]|\\['\\])*')
    | (?P<string>'(?:[^'\\]|\\['\\])*')
    | (?P<number>[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | (?P<compare>==?|!=|<>|<=|>=|<|>)
    | (?P<mark>[\[\]().,:*])
    | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMPARING: Final = frozenset({"IN", "LIKE", "MATCHES", "ISSUBSET", "ISSUPERSET"})


class BadPattern(ValueError):
    """The text is no pattern."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a pattern gives.

    Attributes:
        values: Addresses and hosts, each of which matches by itself, in their order.
        unused: What was not used, by name: a path, an operator.
    """

    values: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(slots=True)
class _Part:
    """A part of a pattern: what matches by itself, and what is not used."""

    values: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def or_else(self, other: _Part) -> _Part:
        return _Part(self.values + other.values, self.unused + other.unused)

    def needs_more(self, why: str) -> _Part:
        """The part as a piece of something that asks for more than it."""
        return _Part([], [*self.unused, why])


def parse_pattern(text: str) -> Pattern:
    """Read a pattern.

    Raises:
        BadPattern: It is none, is longer than 20,000 characters, or nested deeper than 40.
    """
    if len(text) > MAX_LENGTH:
        raise BadPattern("the pattern is too long")
    parser = _Parser(_tokens(text))
    part = parser.observations(0)
    parser.end()
    return Pattern(tuple(dict.fromkeys(part.values)), tuple(dict.fromkeys(part.unused)))


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN_RE.match(text, at)
        if match is None:
            raise BadPattern(f"character {at + 1} does not belong there")
        at = match.end()
        kind = match.lastgroup or ""
        if kind != "space":
            found.append((kind, match[0]))
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise BadPattern(f"“{self._tokens[self._at][1][:20]}” does not belong there")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        if token[0] == "end":
            raise BadPattern("the pattern is cut off")
        self._at += 1
        return token

    def _is(self, kind: str, *texts: str) -> bool:
        found, text = self._peek()
        return found == kind and text in texts

    def _take(self, kind: str, *texts: str) -> bool:
        if self._is(kind, *texts):
            self._at += 1
            return True
        return False

    def _want(self, kind: str, text: str = "") -> str:
        found, have = self._next()
        if found != kind or (text and have != text):
            raise BadPattern(f"“{have[:20]}” stands where {text or kind} belongs")
        return have

    # -- observations: FOLLOWEDBY binds least, then OR, then AND

    def observations(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise BadPattern("the pattern is nested too deeply")
        part = self._observation_or(depth)
        while self._take("word", "FOLLOWEDBY"):
            part = part.or_else(self._observation_or(depth)).needs_more("FOLLOWEDBY")
        return part

    def _observation_or(self, depth: int) -> _Part:
        part = self._observation_and(depth)
        while self._take("word", "OR"):
            part = part.or_else(self._observation_and(depth))
        return part

    def _observation_and(self, depth: int) -> _Part:
        part = self._observation(depth)
        while self._take("word", "AND"):
            part = part.or_else(self._observation(depth)).needs_more("AND")
        return part

    def _observation(self, depth: int) -> _Part:
        if self._take("mark", "("):
            part = self.observations(depth + 1)
            self._want("mark", ")")
        else:
            self._want("mark", "[")
            part = self._comparison_or(depth)
            self._want("mark", "]")
        while True:
            if self._take("word", "WITHIN"):
                self._want("number")
                self._want("word", "SECONDS")
                part = part.needs_more("WITHIN")
            elif self._take("word", "REPEATS"):
                self._want("number")
                self._want("word", "TIMES")
                part = part.needs_more("REPEATS")
            elif self._take("word", "START"):
                self._want("typed")
                self._want("word", "STOP")
                self._want("typed")
                part = part.needs_more("START")
            else:
                return part

    # -- comparisons inside of one observation

    def _comparison_or(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise BadPattern("the pattern is nested too deeply")
        part = self._comparison_and(depth)
        while self._take("word", "OR"):
            part = part.or_else(self._comparison_and(depth))
        return part

    def _comparison_and(self, depth: int) -> _Part:
        part = self._comparison(depth)
        while self._take("word", "AND"):
            part = part.or_else(self._comparison(depth)).needs_more("AND")
        return part

    def _comparison(self, depth: int) -> _Part:
        if self._take("mark", "("):
            part = self._comparison_or(depth + 1)
            self._want("mark", ")")
            return part
        if self._take("word", "EXISTS"):
            return _Part(unused=[f"EXISTS {self._path()}"])
        if self._take("word", "NOT"):
            self._want("word", "EXISTS")
            return _Part(unused=[f"NOT EXISTS {self._path()}"])
        path = self._path()
        negated = self._take("word", "NOT")
        kind, operator = self._next()
        if kind == "compare":
            values = [self._literal()]
        elif operator == "IN":
            values = self._set()
        elif kind == "word" and operator in _COMPARING:
            values = [self._literal()]
        else:
            raise BadPattern(f"“{operator[:20]}” stands where an operator belongs")
        if (
            path in PATHS
            and operator in ("=", "==", "IN")
            and not negated
            and all(value is not None for value in values)
        ):
            return _Part([value for value in values if value is not None])
        if path not in PATHS:
            return _Part(unused=[path])
        return _Part(unused=[f"{path} {'NOT ' if negated else ''}{operator}"])

    def _path(self) -> str:
        kind = self._want("word")
        self._want("mark", ":")
        path = f"{kind}:{self._step()}"
        while True:
            if self._take("mark", "."):
                path += f".{self._step()}"
            elif self._take("mark", "["):
                found, text = self._next()
                if found != "number" and text != "*":
                    raise BadPattern("an index is a number or *")
                self._want("mark", "]")
                path += f"[{text}]"
            else:
                return path[:80]

    def _step(self) -> str:
        kind, text = self._next()
        if kind not in ("word", "string"):
            raise BadPattern(f"“{text[:20]}” stands where a property belongs")
        return text

    def _set(self) -> list[str | None]:
        self._want("mark", "(")
        found = [self._literal()]
        while self._take("mark", ","):
            found.append(self._literal())
        self._want("mark", ")")
        return found

    def _literal(self) -> str | None:
        """A text; None for a value of another type."""
        kind, text = self._next()
        if kind == "string":
            return re.sub(r"\\(['\\])", r"\1", text[1:-1])
        if kind in ("number", "typed") or (kind == "word" and text in ("true", "false")):
            return None
        raise BadPattern(f"“{text[:20]}” stands where a value belongs")
