"""JSON bodies: text, ASCII only, no NaN; hashed in canonical form; large ones kept beside the rows, once, by their hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..errors import InvalidInputError, PayloadTooLargeError
from .store import Rows
from .tables import BLOB, BlobRow

Kept = tuple[str | None, str | None]
"""A body in its row, or the hash of the blob that it stands in."""

_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder()
_canonical = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)


def encode(value: Any) -> str:
    """JSON text of a JSON value.

    Raises: InvalidInputError for NaN, infinities, and what is not JSON.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"not a JSON value: {error}; pass numbers that are finite, and plain or pydantic types") from error


def decode(text: str) -> Any:
    """The JSON value of a body."""
    return _decoder.decode(text)


def digest(text: str) -> str:
    """SHA-256 over the canonical form of a body, so that the order of keys does not matter."""
    return hashlib.sha256(_canonical.encode(json.loads(text)).encode()).hexdigest()


def check_size(text: str, limit: int, what: str) -> None:
    """Raises: PayloadTooLargeError."""
    if len(text) > limit:
        raise PayloadTooLargeError(
            f"{what} is {len(text):,} bytes of JSON, the limit is {limit:,}: pass a reference, or raise the limit in the settings",
            size=len(text),
            limit=limit,
        )


def blob_key(text: str) -> str:
    """The hash under which `keep` puts a large body away."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep(rows: Rows, text: str | None, blob_from: int, hash: str | None = None, refs: int = 1) -> Kept:
    """Where a body stands: (text, None) in its row, or (None, hash) in a blob that counts ``refs`` more references.

    ``hash``: its `blob_key`, where that is known already.
    """
    if text is None or len(text) < blob_from:
        return text, None
    hash = hash or blob_key(text)
    blob = rows.one(BLOB, hash)
    rows.put(BLOB, BlobRow(hash, text, blob.refs + refs if blob else refs))
    return None, hash


def fetch(rows: Rows, text: str | None, hash: str | None) -> str | None:
    """The body that `keep` put away."""
    if hash is None:
        return text
    blob = rows.one(BLOB, hash)
    return blob.body if blob else None


def release(rows: Rows, hash: str | None) -> None:
    """One reference less; the last one takes the blob along."""
    if hash is None:
        return
    blob = rows.one(BLOB, hash)
    if blob is None:
        return
    if blob.refs > 1:
        rows.put(BLOB, blob._replace(refs=blob.refs - 1))
    else:
        rows.drop(BLOB, blob)
