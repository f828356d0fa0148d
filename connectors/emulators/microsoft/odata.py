"""OData query options: "Use query parameters to customize responses"
(https://learn.microsoft.com/graph/query-parameters) and "Use the $filter query parameter"
(https://learn.microsoft.com/graph/filter-query-parameter).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from connectors.emulators.microsoft.graph_errors import GraphError, bad_request

Getter = Callable[[str], object]
"""Gives the value of a property path such as ``from/emailAddress/address``."""
Predicate = Callable[[Getter], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<punct>[(),])|(?P<word>[^\s(),']+))",
)


def short_property(name: str) -> str:
    """An extended property's id as it compares: ``Integer 0x0E07`` and ``integer 0xe07`` are one."""
    return re.sub(r"0x0*", "0x", name.lower())


def _filter_error(text: str) -> GraphError:
    return bad_request(f"Invalid filter clause: {text}", "ErrorInvalidUrlQueryFilter")


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed ``$filter``.

    Attributes:
        matches: Decides for one resource.
        properties: Property paths in the order in which they appear.
    """

    matches: Predicate
    properties: tuple[str, ...]


def parse_filter(text: str, properties: Mapping[str, object]) -> Filter:
    """Parse ``$filter``: comparisons, startswith, endswith, contains, and, or, not, parentheses.

    Args:
        properties: Paths that can be filtered by.

    Raises:
        GraphError: Not understood, or an unknown property.
    """
    tokens: list[str] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise _filter_error(text)
        tokens.append(match[0].strip())
        position = match.end()
    parser = _Parser(tokens, {name.lower(): name for name in properties}, text)
    predicate = parser.either()
    if parser.left:
        raise _filter_error(text)
    return Filter(predicate, tuple(parser.seen))


class _Parser:
    def __init__(self, tokens: list[str], names: Mapping[str, str], text: str) -> None:
        self.left = tokens
        self.seen: list[str] = []
        self._names = names
        self._text = text

    def either(self) -> Predicate:
        options = [self._both()]
        while self._take_word("or"):
            options.append(self._both())
        return lambda get: any(option(get) for option in options)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._take_word("and"):
            parts.append(self._one())
        return lambda get: all(part(get) for part in parts)

    def _one(self) -> Predicate:
        if self._take_word("not"):
            inner = self._one()
            return lambda get: not inner(get)
        if self._take_word("("):
            inner = self.either()
            self._expect(")")
            return inner
        word = self._next()
        if word.lower() in ("startswith", "endswith", "contains"):
            return self._function(word.lower())
        name = self._property(word)
        operator = self._next().lower()
        if operator not in _COMPARE:
            raise _filter_error(self._text)
        wanted = _literal(self._next(), self._text)
        compare = _COMPARE[operator]
        return lambda get: compare(_comparable(get(name)), wanted)

    def _function(self, function: str) -> Predicate:
        self._expect("(")
        name = self._property(self._next())
        self._expect(",")
        wanted = str(_literal(self._next(), self._text))
        self._expect(")")

        def decide(get: Getter) -> bool:
            value = str(_comparable(get(name)) or "")
            if function == "startswith":
                return value.startswith(wanted)
            if function == "endswith":
                return value.endswith(wanted)
            return wanted in value

        return decide

    def _property(self, word: str) -> str:
        name = self._names.get(word.lower())
        if name is None:
            raise _filter_error(self._text)
        self.seen.append(name)
        return name

    def _next(self) -> str:
        if not self.left:
            raise _filter_error(self._text)
        return self.left.pop(0)

    def _take_word(self, word: str) -> bool:
        if self.left and self.left[0].lower() == word:
            self.left.pop(0)
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._take_word(word):
            raise _filter_error(self._text)


def _literal(word: str, text: str) -> object:
    if word.startswith("'"):
        # Strings compare without regard to case, as Exchange does.
        return word[1:-1].replace("''", "'").lower()
    if word in ("true", "false"):
        return word == "true"
    if word == "null":
        return None
    if re.fullmatch(r"\d{4}-\d\d-\d\d(T.*)?", word):
        try:
            moment = datetime.fromisoformat(word if "T" in word else f"{word}T00:00:00Z")
        except ValueError as error:
            raise _filter_error(text) from error
        if moment.tzinfo is None:
            raise _filter_error(text)
        return moment
    try:
        return int(word)
    except ValueError as error:
        raise _filter_error(text) from error


def _comparable(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _ordered(decide: Callable[[int], bool]) -> Callable[[object, object], bool]:
    def compare(left: object, right: object) -> bool:
        if isinstance(left, datetime) and isinstance(right, datetime):
            return decide((left > right) - (left < right))
        if isinstance(left, str) and isinstance(right, str):
            return decide((left > right) - (left < right))
        if isinstance(left, int) and isinstance(right, int):
            return decide((left > right) - (left < right))
        return False

    return compare


_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "gt": _ordered(lambda sign: sign > 0),
    "ge": _ordered(lambda sign: sign >= 0),
    "lt": _ordered(lambda sign: sign < 0),
    "le": _ordered(lambda sign: sign <= 0),
}


def parse_order(text: str, properties: Mapping[str, object]) -> list[tuple[str, bool]]:
    """Parse ``$orderby`` into (property, descending).

    Raises:
        GraphError: An unknown property or direction.
    """
    names = {name.lower(): name for name in properties}
    order: list[tuple[str, bool]] = []
    for part in text.split(","):
        words = part.split()
        if (
            not 1 <= len(words) <= 2
            or words[0].lower() not in names
            or words[-1].lower()
            not in (
                "asc",
                "desc",
                words[0].lower(),
            )
        ):
            raise bad_request(f"Invalid orderby clause: {text}", "ErrorInvalidUrlQuery")
        order.append((names[words[0].lower()], words[-1].lower() == "desc"))
    return order


def parse_count(text: str | None, default: int, highest: int, name: str) -> int:
    """Parse ``$top`` or ``$skip``.

    Raises:
        GraphError: Not a number, negative, or over the limit.
    """
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > highest:
        raise bad_request(f"Invalid value for {name}: {text}", "ErrorInvalidUrlQuery")
    return int(text)


def split_expand(text: str) -> dict[str, str]:
    """``$expand`` into relation -> its options, e.g. ``$filter=id eq 'String 0x001A'``."""
    found: dict[str, str] = {}
    depth = start = 0
    pieces: list[str] = []
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            pieces.append(text[start:index])
            start = index + 1
    pieces.append(text[start:])
    for piece in pieces:
        name, _, options = piece.strip().partition("(")
        if name:
            found[name] = options.removesuffix(")")
    return found
