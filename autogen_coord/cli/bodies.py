"""Bodies on the command line: an input from an argument or a file, a value as it is printed."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import typer

from ..core import bodies
from ..core.discovery import CapabilityInfo
from ..core.schemas import checker
from ..errors import InvalidInputError, PayloadTooLargeError
from .printing import print_json

STDIN = "-"
LAID_OUT = 16
"""How many times larger than the limit a file may be: its JSON may be laid out for readers."""


def read_text(name: str, limit: int) -> str:
    """The text of a file, or of standard input (``-``). ``limit``: bytes of JSON that are taken.

    Raises: InvalidInputError, PayloadTooLargeError.
    """
    most = limit * LAID_OUT
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(most + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(
            f"{name!r}: {error.strerror or error}; name a file that can be read, or - for standard input"
        ) from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"{name!r} is no text in UTF-8; convert it, or name another file") from None
    if len(data) > most:
        raise PayloadTooLargeError(
            f"{name!r} is larger than {most:,} bytes: pass a reference, or raise the limit in the settings",
            size=len(data),
            limit=most,
        )
    return text


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises: InvalidInputError that says where it is none, and does not quote it."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise InvalidInputError("no JSON: a number that is none, or is too long, or nested too deep") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def read_input(text: str | None, capability: CapabilityInfo) -> Any:
    """What a capability takes: the text as JSON where that fits, else the text itself where that fits.

    Raises: InvalidInputError.
    """
    label, schema = capability.label, capability.input_schema
    more = f"`autogen-coord agents show {label}` tells what it takes"
    check = checker(bodies.encode(schema))

    def misfit(value: Any) -> InvalidInputError | None:
        try:
            check(bodies.encode(value), f"the input of {label}")
        except InvalidInputError as error:
            return InvalidInputError(f"{error}; {more}")
        return None

    if text is None:
        if misfit(None) is not None:
            raise InvalidInputError(f"{label} wants an input: give INPUT or --input-file; {more}")
        return None
    try:
        value = read_json(text)
        refused = misfit(value)
    except InvalidInputError as error:
        value, refused = None, InvalidInputError(f"the input of {label}: {error}; {more}")
    if refused is None:
        return value
    unfit = misfit(text)
    if unfit is None:
        return text
    raise unfit if schema.get("type") == "string" else refused


def print_value(value: Any, as_json: bool) -> None:
    """Print a text as it is, with what would steer a terminal escaped on one; anything else as JSON."""
    if as_json:
        print_json(value)
    elif isinstance(value, str):
        text = _bearable(value) if sys.stdout.isatty() else value
        typer.echo(text, nl=not text.endswith("\n"), color=True)  # or what is no terminal would get it without its escapes
    else:
        typer.echo(json.dumps(value, indent=2))


def _bearable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode("ascii") for char in text)
