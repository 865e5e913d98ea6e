"""Every default in one table, and the only place that reads the environment.

Order: an argument in code, then ``AUTOGEN_COORD_<NAME>``, then the TOML file (``AUTOGEN_COORD_CONFIG``, else
``autogen-coord.toml`` in the working directory), then the defaults below. All times are seconds, all sizes bytes.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from .errors import ConfigError

PREFIX = "AUTOGEN_COORD_"
FILE = "autogen-coord.toml"
DAY = 86_400.0
MAX_SECONDS = 100 * 365 * DAY
"""The longest time that is accepted anywhere: a hundred years."""
ORDERED = "beat", "suspect_after", "session_ttl", "trust_margin"
"""Settings that must fit each other."""


class Settings(BaseModel):
    """The settings of one process. Rules see them as their ``policy``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # where
    store: str = Field("coord.db", description="a path, sqlite:///... or postgresql://...")
    namespace: str = Field("default", description="one application; namespaces of a store do not see each other")

    # tasks
    tries: int = Field(3, ge=1, le=1_000, description="attempts of a task whose handler raises")
    backoff: float = Field(0.5, ge=0, le=MAX_SECONDS, description="first delay between attempts")
    backoff_factor: float = Field(2.0, ge=1, le=1_000)
    backoff_cap: float = Field(60.0, ge=0, le=MAX_SECONDS)
    timeout: float = Field(300.0, gt=0, le=MAX_SECONDS, description="of one attempt")
    cancel_grace: float = Field(5.0, ge=0, le=DAY, description="what a handler gets to stop")
    message_ttl: float = Field(7 * DAY, gt=0, le=MAX_SECONDS, description="how long a message waits for its receiver")
    no_provider_wait: float = Field(30.0, ge=0, le=DAY, description="how long a call waits for a live provider")
    crash_limit: int = Field(3, ge=1, le=1_000, description="crashes while alone before a task is given up")
    priority_weight: float = Field(30.0, ge=0, le=DAY, description="seconds of waiting that one point of priority is worth")
    max_concurrency: int = Field(8, ge=1, le=100_000, description="per process and capability")
    reject_pause: float = Field(5.0, ge=0, le=DAY, description="how long a rejecting provider is passed over")
    suspect_patience: float = Field(10.0, gt=0, le=DAY, description="how long a process holds new work back to run a suspect alone")

    # sizes
    max_input: int = Field(1 << 20, ge=1, description="bytes of JSON")
    max_output: int = Field(1 << 20, ge=1, description="bytes of JSON")
    blob_from: int = Field(16 << 10, ge=1, description="larger bodies are kept beside the rows")

    # shared state
    max_value: int = Field(1 << 20, ge=1, description="of a document, bytes of JSON")
    max_write: int = Field(16 << 20, ge=1, description="of all documents of one write, bytes of JSON; one alone may be max_value")
    max_depth: int = Field(64, ge=1, le=200, description="of a document, levels of objects and arrays")
    history: int = Field(100, ge=0, le=1_000_000, description="earlier versions of a document; more where a snapshot needs them")

    # sessions
    beat: float = Field(1.0, gt=0, le=3600)
    suspect_after: float = Field(2.0, gt=0, le=3600)
    session_ttl: float = Field(3.0, gt=0, le=3600)
    trust_margin: float = Field(0.5, ge=0, le=3600)
    loop_tick: float = Field(30.0, gt=0, le=DAY, description="a loop silent for so long no longer renews its session")
    drain: float = Field(30.0, ge=0, le=DAY, description="what running handlers get when the process closes")

    # line and store
    line_commands: int = Field(4_096, ge=1)
    batch_commands: int = Field(256, ge=1)
    batch_seconds: float = Field(0.005, gt=0, le=60)
    store_wait: float = Field(10.0, gt=0, le=3600, description="longest wait for a busy store")
    poll: float = Field(0.010, gt=0, le=60, description="how often another process's commits are looked for while somebody waits")
    slice: int = Field(256, ge=1, le=100_000, description="rows per transaction of housekeeping")

    # kept
    keep_seconds: float = Field(7 * DAY, gt=0, le=MAX_SECONDS, description="events and finished tasks")
    keep_count: int = Field(1_000_000, ge=0, description="events and finished tasks")

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if not self.beat < self.suspect_after < self.session_ttl:
            raise ValueError("beat < suspect_after < session_ttl must hold")
        if not self.trust_margin < self.session_ttl - self.beat:
            raise ValueError("trust_margin must be smaller than session_ttl - beat")
        return self

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """Settings from code, environment, file and defaults, in that order.

        Raises: ConfigError that names the setting and where it came from.
        """
        values = {**_from_file(), **_from_environment(), **{k: v for k, v in given.items() if v is not None}}
        try:
            return cls(**values)
        except ValidationError as error:
            said = _words(error.errors(include_url=False)[0], cls.origins(**given))
            end = "" if said.endswith("?") else ";"
            raise ConfigError(f"settings: {said}{end} `autogen-coord doctor` lists all settings", said=said) from error

    @classmethod
    def usable(cls, **given: Any) -> Settings:
        """What `load` would find, but for what cannot be used: that has its default. For `doctor`, which looks on."""
        values: dict[str, Any] = {}
        for source in (_from_file, _from_environment):
            with contextlib.suppress(ConfigError):
                values |= source()
        values |= {name: value for name, value in given.items() if value is not None}
        while True:
            try:
                return cls(**values)
            except ValidationError as error:
                wrong = {str(one["loc"][0]) for one in error.errors(include_url=False) if one["loc"]} or set(ORDERED)
                values = {name: value for name, value in values.items() if name not in wrong}

    @classmethod
    def origins(cls, **given: Any) -> dict[str, str]:
        """Where `load` takes each setting from: ``argument``, ``environment``, ``file`` or ``default``.

        Raises: ConfigError for a settings file that cannot be read.
        """
        origins = dict.fromkeys(cls.model_fields, "default")
        origins |= dict.fromkeys(_from_file(), "file")
        origins |= dict.fromkeys(_from_environment(), "environment")
        return origins | {name: "argument" for name, value in given.items() if value is not None}

    @classmethod
    def unknown_variables(cls) -> list[str]:
        """Variables of the environment that look like settings and are none: misspelt ones, which would be passed over silently."""
        known = {f"{PREFIX}{name.upper()}" for name in (*cls.model_fields, "config")}
        return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _words(one: ErrorDetails, origins: dict[str, str]) -> str:
    """What is wrong with a setting, in our words, and where it stands."""
    name = str(one["loc"][0]) if one["loc"] else ""
    origin = origins.get(name, "argument")
    where = {"file": f" in {_file()}", "environment": f" in {PREFIX}{name.upper()}"}.get(origin, "")
    if one["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.4)
        return f"unknown setting {name!r}{where}" + (f"; did you mean {near[0]!r}?" if near else "")
    said = plain(one["msg"])
    if not name:
        return said
    kind = one["type"].partition("_")[0]
    wanted = {"int": "a whole number", "float": "a number", "finite": "a number", "string": "a text"}.get(kind)
    said = f"{wanted} is wanted" if wanted else said
    shown = "" if name == "store" else f"={one['input']!r:.60}"  # a store's URL may hold a password
    return f"{name}{shown}{where}: {said}"


def plain(text: str) -> str:
    """A message of pydantic's without its own words."""
    return text.replace("Value error, ", "").replace("Input should be", "must be")


def _file() -> Path:
    return Path(os.environ.get(f"{PREFIX}CONFIG") or FILE)


def _from_environment() -> dict[str, Any]:
    names = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    return {names[key]: value for key, value in os.environ.items() if key in names}


def _from_file() -> dict[str, Any]:
    path = _file()
    if not os.environ.get(f"{PREFIX}CONFIG") and not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"settings file {path}: {error}") from error
