"""``autogen-coord migrate``: bring a store to this code's schema."""

from __future__ import annotations

from ..errors import ConfigError
from ..settings import Settings
from ..stores.sqlite import schema
from .options import DebugOption, StoreOption, file_of, require_made
from .printing import say


def migrate(store: StoreOption = None, debug: DebugOption = False) -> None:
    """Bring a store to the schema of this version. Stop its programs and back it up first: there is no way back."""
    settings = Settings.load(store=store)
    path = file_of(settings.store)
    if path is None:
        raise ConfigError("migrate: only a store in a file is migrated here; name a path with --store")
    require_made(path)
    before, after = schema.migrate(path, settings.store_wait)
    if before != after:
        say(f"{path}: migrated from schema {before} to {after}")
    else:
        say(f"{path}: schema {before} needs no migration (this version makes schema {schema.SCHEMA})")
