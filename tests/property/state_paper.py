"""The shared state on paper: every key with all its versions, every snapshot with a copy of what it is of; no history is pruned.

What a command must come to is worked out here by brute force, in words of its own. What only the store knows is asked of it: which
versions it still keeps, and whether a lease stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from autogen_coord.core.open_conflicts import Decide
from autogen_coord.core.snapshots import Restore, Revert
from autogen_coord.core.state import Edit, Write
from autogen_coord.settings import Settings


class Gone:
    """No value: never made, or deleted."""

    def __repr__(self) -> str:
        return "GONE"


GONE = Gone()


class Version(NamedTuple):
    version: int
    number: int
    value: Any
    kind: str
    base: int | None
    token: int | None
    at: float
    created: float
    actor: str | None
    cause: str | None


class New(NamedTuple):
    """A version that a command must write."""

    key: str
    value: Any
    kind: str
    base: int | None
    token: int | None = None


class Asked(NamedTuple):
    """A conflict that a command must leave open."""

    key: str
    base: int
    found: int
    wanted: Any
    kind: str


class Taken(NamedTuple):
    prefix: str
    number: int
    values: dict[str, Any]


class Refused(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Paper:
    policy: Settings
    keeps: Callable[[str, int], bool]
    """Whether the store has a version of a key."""
    stands: Callable[[Any, str], bool]
    """Whether a lease allows to write a key now."""
    documents: dict[str, list[Version]] = field(default_factory=dict)
    fenced: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, Taken] = field(default_factory=dict)
    policies: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    conflicts: dict[str, Asked] = field(default_factory=dict)

    # what there is

    def newest(self, key: str) -> int:
        return self.documents[key][-1].version if self.documents.get(key) else 0

    def value(self, key: str, version: int | None = None) -> Any:
        every = self.documents.get(key, [])
        if version is None:
            return every[-1].value if every else GONE
        return next((one.value for one in every if one.version == version), GONE)

    def present(self, prefix: str) -> dict[str, Any]:
        """All documents at a prefix."""
        return {key: self.value(key) for key in self.documents if is_in(key, prefix) and self.value(key) is not GONE}

    # what a write comes to

    def written(self, command: Write) -> list[New | Asked | None]:
        """One for each edit; None for a deletion of nothing. Raises: Refused."""
        keys = [edit.key for edit in command.edits]
        if len(set(keys)) < len(keys):
            raise Refused("invalid_input")
        return [self._edited(edit) for edit in command.edits]

    def _edited(self, edit: Edit) -> New | Asked | None:
        key, expected, now = edit.key, edit.expected, self.value(edit.key)
        token = self.fence(key, edit.fence, edit.force)
        policy, reducers = self.stance(edit)
        newest = self.newest(key)
        if expected is not None and expected > newest:
            raise Refused("version_conflict")
        lags = expected is not None and expected < newest and not (expected == 0 and now is GONE)
        if lags and policy == "reject":
            raise Refused("version_conflict")
        if lags and policy == "ask":
            assert expected is not None
            return Asked(key, expected, newest, self._wanted(edit), edit.act)
        if lags and policy == "merge":
            base = self._base(edit)
            value = merged(base, now, self._wanted(edit))
            if value is GONE and now is GONE:  # nothing is left to delete; and what is gone is no base to leave alone
                if edit.act != "delete":
                    raise Refused("version_conflict")
                if edit.missing_ok:
                    return None
                raise Refused("not_found")
            return New(key, self.fits(value), "merge", expected, token)
        if edit.act == "delete":
            if now is not GONE:
                return New(key, GONE, "delete", expected, token)
            if edit.missing_ok:
                return None
            raise Refused("not_found")
        given = json.loads(edit.body or "")
        if edit.act == "patch":
            if now is GONE:
                raise Refused("not_found")
            return New(key, self.fits(patched(now, given)), "patch", expected, token)
        if policy == "reduce":
            return New(key, self.fits(reduced(now, given, reducers)), "reduce", expected, token)
        return New(key, given, "put", expected, token)

    def fence(self, key: str, guard: Any, force: bool) -> int | None:
        if guard is not None:
            if not self.stands(guard, key):
                raise Refused("lease_lost")
            return int(guard.token)
        if key in self.fenced and not force:
            raise Refused("fenced")
        return None

    def stance(self, edit: Edit) -> tuple[str, Mapping[str, str]]:
        if edit.policy is not None and (edit.policy != "reduce" or edit.reducers):
            return edit.policy, edit.reducers or {}
        fitting = [prefix for prefix in self.policies if is_in(edit.key, prefix)]
        found = self.policies[max(fitting, key=len)] if fitting else ("reject", {})
        if edit.policy == "reduce" and found[0] != "reduce":
            raise Refused("invalid_input")
        return found

    def _base(self, edit: Edit) -> Any:
        assert edit.expected is not None
        if edit.expected and not self.keeps(edit.key, edit.expected):
            raise Refused("version_conflict")
        return self.value(edit.key, edit.expected)

    def _wanted(self, edit: Edit) -> Any:
        if edit.act == "delete":
            return GONE
        given = json.loads(edit.body or "")
        if edit.act == "put":
            return given
        base = self._base(edit)
        if base is GONE:
            raise Refused("not_found")
        return self.fits(patched(base, given))

    def fits(self, value: Any) -> Any:
        if value is not GONE and depth(value) > self.policy.max_depth:
            raise Refused("invalid_input")
        if value is not GONE and len(text(value)) > self.policy.max_value:
            raise Refused("payload_too_large")
        return value

    # what else writes

    def reverted(self, command: Revert) -> New:
        """Raises: Refused."""
        newest = self.newest(command.key)
        if not newest:
            raise Refused("not_found")
        if command.version > newest or command.expected not in (None, newest):
            raise Refused("version_conflict")
        token = self.fence(command.key, command.fence, command.force)
        if not self.keeps(command.key, command.version):
            raise Refused("not_found")
        value = self.value(command.key, command.version)
        if value is GONE:
            raise Refused("invalid_input")
        return New(command.key, value, "restore", command.version, token)

    def decided(self, command: Decide) -> New | None:
        """None when nothing is written. Raises: Refused."""
        conflict = self.conflicts.get(command.id)
        if conflict is None:
            raise Refused("not_found")
        if command.expected not in (None, self.newest(conflict.key)):
            raise Refused("version_conflict")
        value = conflict.wanted if command.how == "mine" else json.loads(command.body or "null")
        if command.how == "theirs" or (value is GONE and self.value(conflict.key) is GONE):
            return None
        return New(conflict.key, value, "decide", conflict.base, self.fence(conflict.key, command.fence, command.force))

    def restored(self, command: Restore, keys: Sequence[str]) -> list[New]:
        """Of these keys, those that are another now than they were. Raises: Refused."""
        taken = self.snapshots.get(command.name)
        if taken is None:
            raise Refused("not_found")
        if not is_in(command.prefix, taken.prefix):
            raise Refused("invalid_input")
        out = []
        for key in keys:
            was = taken.values.get(key, GONE)
            if same(was, self.value(key)):
                continue
            self.fence(key, None, command.force)
            then = [one.version for one in self.documents.get(key, []) if one.number <= taken.number]
            out.append(New(key, was, "restore", then[-1] if then else None))
        return out

    # what is noted

    def note(self, new: New, number: int, now: float, actor: str | None, cause: str | None) -> Version:
        """The next version of a document."""
        every = self.documents.setdefault(new.key, [])
        created = every[-1].created if every and every[-1].value is not GONE else now
        version = Version(len(every) + 1, number, new.value, new.kind, new.base, new.token, now, created, actor, cause)
        every.append(version)
        if new.token is not None:
            self.fenced[new.key] = max(new.token, self.fenced.get(new.key, 0))
        return version

    def forget(self, key: str) -> None:
        """Its tombstone was pruned: its versions begin anew."""
        del self.documents[key]
        self.fenced.pop(key, None)


def is_in(key: str, prefix: str) -> bool:
    parts, above = key.split("/"), prefix.split("/")
    return prefix == "" or parts[: len(above)] == above


def text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def same(one: Any, other: Any) -> bool:
    if one is GONE or other is GONE:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def patched(value: Any, patch: Any) -> Any:
    """Operations on fields of an object, or RFC 7396. Raises: Refused."""
    if isinstance(patch, list):
        for step in patch:
            name = step["path"][1:]
            if step["op"] == "test":
                if not isinstance(value, dict) or name not in value or not same(value[name], step["value"]):
                    raise Refused("version_conflict")
            elif not isinstance(value, dict) or (step["op"] in ("replace", "remove") and name not in value):
                raise Refused("invalid_input")
            elif step["op"] == "remove":
                value = {other: part for other, part in value.items() if other != name}
            else:
                value = {**value, name: step["value"]}
        return value
    out = dict(value) if isinstance(value, dict) else {}
    for name, part in patch.items():
        if part is None:
            out.pop(name, None)
        else:
            out[name] = patched(out.get(name), part) if isinstance(part, dict) else part
    return out


def reduced(value: Any, update: Any, reducers: Mapping[str, str]) -> Any:
    """Raises: Refused."""
    value = {} if value is GONE else value
    if not isinstance(value, dict) or not isinstance(update, dict):
        raise Refused("invalid_input")
    out = dict(value)
    for name, part in update.items():
        way, was = reducers.get(name), out.get(name, GONE)
        if way in ("append", "union"):
            if not isinstance(part, list) or not (was is GONE or isinstance(was, list)):
                raise Refused("invalid_input")
            together = [*(was if isinstance(was, list) else []), *part]
            out[name] = together if way == "append" else [one for at, one in enumerate(together) if one not in together[:at]]
        elif way in ("add", "max"):
            kinds = (int,) if way == "add" else (int, str)
            if not any(isinstance(part, one) and (was is GONE or isinstance(was, one)) for one in kinds):
                raise Refused("invalid_input")
            out[name] = part if was is GONE else was + part if way == "add" else max(was, part)
        else:
            out[name] = part
    return out


def merged(base: Any, theirs: Any, mine: Any) -> Any:
    """Raises: Refused where both changed the same in two ways."""
    if isinstance(theirs, dict) and isinstance(mine, dict) and (base is GONE or isinstance(base, dict)):
        before = base if isinstance(base, dict) else {}
        fields = {name: merged(before.get(name, GONE), theirs.get(name, GONE), mine.get(name, GONE)) for name in {**theirs, **mine}}
        return {name: part for name, part in fields.items() if part is not GONE}
    if same(theirs, mine) or same(mine, base):
        return theirs
    if same(theirs, base):
        return mine
    if all(isinstance(one, list) for one in (base, theirs, mine)):
        size = len(base)
        if same(theirs[:size], base) and same(mine[:size], base):
            return [*theirs, *mine[size:]]
    raise Refused("version_conflict")
