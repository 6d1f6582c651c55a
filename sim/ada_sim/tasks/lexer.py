"""Words, numbers and marks of a task template, each with its line and column; and the error that points at one."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"(?P<size>\d+x\d+)|(?P<number>\d+(\.\d+)?)|(?P<word>[A-Za-z_][A-Za-z0-9_-]*)|(?P<mark>->|[,:()])|(?P<space>[ \t]+)"
)


class TemplateError(ValueError):
    """A task template that can't be read; the message names the place and what is expected there."""

    def __init__(self, name: str, line: int, column: int, message: str, source: str = "") -> None:
        pointer = f"\n    {source}\n    {' ' * (column - 1)}^" if source else ""
        super().__init__(f"template {name}, line {line}, column {column}: {message}{pointer}")
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Token:
    """One piece of a line; kind is size, number, word, mark or end. Columns count from 1."""

    kind: str
    text: str
    column: int


def tokens_of(name: str, line: int, source: str) -> list[Token]:
    """Return the tokens of one line up to its comment, closed by an `end` token."""
    tokens: list[Token] = []
    position = 0
    while position < len(source) and source[position] != "#":
        match = _TOKEN.match(source, position)
        if match is None:
            message = f"expected a word, a number or one of `, : ( ) ->`, found `{source[position]}`"
            raise TemplateError(name, line, position + 1, message, source)
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, match.group(), position + 1))
        position = match.end()
    return [*tokens, Token("end", "end of line", position + 1)]


class Line:
    """A cursor over the tokens of one line."""

    def __init__(self, name: str, number: int, source: str) -> None:
        self.name, self.number, self.source = name, number, source
        self.tokens = tokens_of(name, number, source)
        self.position = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def error(self, expected: str, token: Token | None = None) -> TemplateError:
        at = token or self.token
        found = at.text if at.kind == "end" else f"`{at.text}`"
        return TemplateError(self.name, self.number, at.column, f"expected {expected}, found {found}", self.source)

    def problem(self, message: str, token: Token) -> TemplateError:
        return TemplateError(self.name, self.number, token.column, message, self.source)

    def take(self) -> Token:
        token = self.token
        if token.kind != "end":
            self.position += 1
        return token

    def take_if(self, *texts: str) -> bool:
        """Take the next token if it is one of `texts`."""
        if self.token.text in texts and self.token.kind in ("word", "mark"):
            self.position += 1
            return True
        return False

    def expect(self, text: str, context: str = "") -> Token:
        if self.token.text != text:
            raise self.error(f"`{text}`{context}")
        return self.take()

    def expect_kind(self, kind: str, expected: str) -> Token:
        if self.token.kind != kind:
            raise self.error(expected)
        return self.take()

    def whole_number(self, expected: str, low: int, high: int) -> int:
        token = self.expect_kind("number", expected)
        if not token.text.isdigit() or not low <= int(token.text) <= high:
            raise self.error(f"{expected} from {low} to {high}", token)
        return int(token.text)

    def end(self) -> None:
        if self.token.kind != "end":
            raise self.error("the end of the line")
