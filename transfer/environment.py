"""Settings from the environment: every problem is collected and all are reported at once, secrets never shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from transfer.errors import Problem, WrongSettings
from transfer.misspelt import Misspelt, misspelt
from transfer.secret import Secret, Unreadable, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_Number = TypeVar("_Number", int, float)
_Value = TypeVar("_Value", str, int, float, str | None)
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]i?B|B)", re.IGNORECASE)
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
EXPECTED_DURATION = "a duration such as 250ms, 15s, 5m, 1m30s or plain seconds"
EXPECTED_SIZE = "a size such as 512KiB, 4MiB, 10MB or plain bytes"
_NOTHING = "nothing: it is not set"


def parse_duration(text: str) -> float:
    """Return the seconds in `250ms`, `15s`, `1m30s`, `7d` or `15`; raise ValueError for anything else."""
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    raise ValueError(f"expected {EXPECTED_DURATION}, got {text!r}")


def parse_size(text: str) -> int:
    """Return the bytes in `4MiB`, `512KiB`, `10MB` or `4096`; raise ValueError for anything else."""
    match = _SIZE.fullmatch(text)
    if match:
        return int(float(match[1]) * _BYTES[match[2].upper()])
    if text.isascii() and text.isdigit():
        return int(text)
    raise ValueError(f"expected {EXPECTED_SIZE}, got {text!r}")


def _bounds(minimum: float | None, maximum: float | None) -> str:
    at_least = f" of at least {minimum}" if minimum is not None else ""
    return at_least + (f" of at most {maximum}" if maximum is not None else "")


def _with_hint(problem: Problem, like: str | None) -> Problem:
    """Return the problem of a variable that is not set, with the name of the one that was set in its place."""
    if like is None or not problem.got.startswith("nothing"):
        return problem
    hint = f"{_NOTHING}, but {like} is: did you mean {problem.variable}?"
    return Problem(problem.variable, problem.expected, hint)


class Environment:
    """Reads variables one by one, notes what is wrong, and raises it all in `finish`. An empty variable is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: set[str] = set()
        self.effective: dict[str, str | int | float] = {}
        """The values in force, by variable; of a secret only that it is set."""
        self.problems: list[Problem] = []

    def add_problem(self, variable: str, expected: str, got: str) -> None:
        """Note a wrong setting; `got` must not hold a secret."""
        self.problems.append(Problem(variable, expected, got))

    def finish(self) -> None:
        """Raise `WrongSettings` with every problem, if there is one; a missing variable names the one like it."""
        if self.problems:
            meant = {one.meant: one.variable for one in self.misspelt()}
            raise WrongSettings([_with_hint(problem, meant.get(problem.variable)) for problem in self.problems])

    def misspelt(self, *ours: str) -> list[Misspelt]:
        """Return which variables nobody reads; those that begin with one of `ours` also when they are like no other."""
        return misspelt(self._environ, self._known, ours)

    def _noted(self, name: str, value: _Value) -> _Value:
        if value is not None:
            self.effective[name] = value
        return value

    def _get(self, name: str) -> str | None:
        self._known.add(name)
        return self._environ.get(name)

    @overload
    def text(self, name: str, default: str, *, check: Callable[[str], object] | None = None) -> str: ...
    @overload
    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        required: Literal[True],
        check: Callable[[str], object] | None = None,
    ) -> str: ...
    @overload
    def text(self, name: str, default: None = None, *, check: Callable[[str], object] | None = None) -> str | None: ...
    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        required: bool = False,
        check: Callable[[str], object] | None = None,
    ) -> str | None:
        """Return a text; `check` raises ValueError (its `expected`, if it has one) for what it does not like."""
        value = self._get(name) or default
        if value is None and required:
            self.add_problem(name, "a value", _NOTHING)
            return ""
        if value is not None and check is not None:
            try:
                check(value)
            except ValueError as error:
                self.add_problem(name, getattr(error, "expected", str(error)), repr(value))
        return self._noted(name, value)

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """Return one of the options."""
        value = self._get(name) or default
        if value not in options:
            self.add_problem(name, "one of " + ", ".join(options), repr(value))
            return default
        return self._noted(name, value)

    def integer(self, name: str, default: int, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """Return a whole number within the bounds."""
        return self._number(name, default, int, "a whole number", minimum=minimum, maximum=maximum)

    def duration(
        self, name: str, default_seconds: float, *, minimum: float | None = None, maximum: float | None = None
    ) -> float:
        """Return seconds."""
        expected = EXPECTED_DURATION
        return self._number(name, default_seconds, parse_duration, expected, minimum=minimum, maximum=maximum)

    def size(self, name: str, default: int, *, minimum: int | None = None) -> int:
        """Return bytes."""
        return self._number(name, default, parse_size, EXPECTED_SIZE, minimum=minimum)

    def _number(
        self,
        name: str,
        default: _Number,
        parse: Callable[[str], _Number],
        expected: str,
        *,
        minimum: float | None,
        maximum: float | None = None,
    ) -> _Number:
        text = self._get(name)
        if not text:
            return self._noted(name, default)
        bounds = _bounds(minimum, maximum)
        try:
            value = parse(text)
        except ValueError:
            self.add_problem(name, expected + bounds, repr(text))
            return default
        if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            self.add_problem(name, expected + bounds, repr(text))
        return self._noted(name, value)

    def secret(self, name: str) -> Secret | None:
        """Return the value of NAME or the file that NAME_FILE names, which can be read now."""
        value, path = self._get(name), self._get(f"{name}_FILE")
        if value and path:
            self.add_problem(name, f"either {name} or {name}_FILE", "both")
        if value or path:
            self.effective[name] = "set"
        if value or not path:
            return Secret(name, value) if value else None
        secret = Secret(name, path=path)
        return secret if self.reads(secret.read) else None

    def is_set(self, name: str) -> bool:
        """Say whether a variable has a value."""
        return bool(self._get(name))

    def path(self, name: str) -> str | None:
        """Return the path of a file that can be read."""
        path = self._noted(name, self._get(name))
        return path if path and self.reads(lambda: read_text(name, path)) else None

    def reads(self, read: Callable[[], object]) -> bool:
        """Say whether something can be read, and note a problem when it cannot."""
        try:
            read()
        except Unreadable as error:
            self.add_problem(error.variable, error.expected, error.got)
            return False
        return True
