"""Drafts: changes of documents that a handler has made and that are not written yet.

A handler's changes of one document become *one* edit, and so one version, written with the outcome. A later change is put together
with the earlier ones so that the edit does to the document, whatever stands there then, what they would do one after the other:
patches are put behind each other, updates of ``reduce`` folded into each other. Where that cannot be said as one edit (an update,
then a patch), it is a put of what the handler saw, which expects the version that this was made from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import VersionConflictError
from ..settings import Settings
from . import reducing, state, state_policies
from .bodies import decode, encode
from .documents import DELETE, MERGED, PATCH, PUT, Author, New, there
from .open_conflicts import Lost
from .state import Edit
from .state_policies import LAST_WRITER, REDUCE, REJECT
from .store import Rows
from .tables import DOCUMENT, DOCUMENT_CHANGE, ChangeRow, DocumentRow


class Draft(NamedTuple):
    """A changed document: the one edit that its changes are, what stood there before them, and what its handler sees now.

    ``row`` has the version that it will have if nobody else writes first, its body in it, and neither number nor time. None: there
    was nothing to delete, and is nothing to see.
    """

    edit: Edit
    before: DocumentRow | None
    row: DocumentRow | None


def draft(rows: Rows, edit: Edit, known: Draft | None, by: Author, policy: Settings) -> Draft:
    """A change on top of what its document is to the handler; nothing is written.

    Raises: as `state.write`, of what stands there now.
    """
    if known is not None:
        _show(rows, known)
    row = rows.one(DOCUMENT, edit.key)
    stance = state_policies.stance(rows, edit.key, edit.policy, edit.reducers)
    edit = edit._replace(policy=stance.policy, reducers=stance.reducers)  # as it is now, also when it is written
    made = state.edited(rows, edit, row, policy)
    if isinstance(made, Lost):
        if known is not None:
            raise _own(edit, made)
        made = New(made.text, made.kind, made.base, None if edit.fence is None else edit.fence.token)
    before = row if known is None else known.before
    whole = edit if known is None else _composed(known, edit, made)
    return Draft(whole, before, row if made is None else _seen(edit.key, before, row, made, by))


def _show(rows: Rows, known: Draft) -> None:
    """Let a rule see the draft where the document stands; what it was made from is the version before."""
    if known.row is None:
        return
    if known.before is not None:
        rows.put(DOCUMENT_CHANGE, ChangeRow.of(known.before))
    rows.put(DOCUMENT, known.row)


def _seen(key: str, before: DocumentRow | None, row: DocumentRow | None, new: New, by: Author) -> DocumentRow:
    version = 1 if before is None else before.version + 1
    born = row.created_at if row is not None and there(row) else 0.0
    fenced = None if row is None else row.fenced
    if new.token is not None:
        fenced = max(new.token, fenced or 0)
    return DocumentRow(
        key, version, new.text, None, new.kind, new.base, 0, 0.0, born, by.actor, by.cause, new.token, fenced, 0,
        0.0 if new.text is None else None,
    )  # fmt: skip


def _own(edit: Edit, lost: Lost) -> VersionConflictError:
    return VersionConflictError(
        f"{edit.key!r}: version {lost.base} was expected, but this handler has changed it itself to {lost.found}: "
        "expect that one, or none",
        key=edit.key,
        expected=lost.base,
        found=lost.found,
    )


# two changes as one


def _composed(known: Draft, second: Edit, new: New | None) -> Edit:
    first = known.edit
    if new is None:  # it was deleted already
        return first._replace(missing_ok=True)
    version = 0 if known.before is None else known.before.version
    expected, policy = first.expected, first.policy
    if expected is None and second.expected is not None:
        expected, policy = version, second.policy
    base = second._replace(
        expected=expected,
        policy=LAST_WRITER if policy == REDUCE else policy,
        reducers=None,
        fence=second.fence or first.fence,
        force=second.force or first.force,
    )
    if second.act == DELETE:
        return base._replace(missing_ok=second.missing_ok or first.missing_ok or not there(known.before))
    if _is_update(first) and _is_update(second) and first.reducers == second.reducers:
        return base._replace(body=_folded(first, second), policy=REDUCE, reducers=first.reducers)
    if new.kind == PUT or (new.kind != MERGED and first.act in (PUT, DELETE) and not _is_update(first)):
        return base._replace(act=PUT, body=new.text)
    if first.act == new.kind == PATCH and first.expected in (None, version):
        patch = _patches(decode(first.body or ""), decode(second.body or ""))
        if patch is not None:
            return base._replace(body=encode(patch))
    return base._replace(act=PUT, body=new.text, expected=version, policy=REJECT)


def _is_update(edit: Edit) -> bool:
    return edit.act == PUT and edit.policy == REDUCE


def _folded(first: Edit, second: Edit) -> str:
    return encode(reducing.reduce(decode(first.body or ""), decode(second.body or ""), first.reducers or {}))


def _patches(first: Any, second: Any) -> Any:
    """One patch that does what both do in turn; None where none does so to every value."""
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return _merge_patches(first, second) if isinstance(first, dict) and isinstance(second, dict) else None


def _merge_patches(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any] | None:
    both = dict(first)
    for name, later in second.items():
        earlier = first.get(name, later)
        if isinstance(later, dict) and name in first:
            if not isinstance(earlier, dict):  # an object where the first takes away what there was: no patch says so
                return None
            later = _merge_patches(earlier, later)
            if later is None:
                return None
        both[name] = later
    return both
