"""When a failed attempt is tried again.

Source: "Exponential Backoff And Jitter", M. Brooker, AWS Architecture Blog, 2015: full jitter.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..errors import DeadlockError, InvalidInputError
from ..settings import MAX_SECONDS, Settings
from .bodies import decode, encode

NOT_RETRIED = frozenset({"config", "deadlock", "invalid_input", "non_determinism", "payload_too_large", "permission_denied"})
"""Codes of errors that another attempt would only meet again. A bad *output* is not among them: a model may answer better."""


def is_retried(error: BaseException, code: str) -> bool:
    """Whether another attempt may fare better. A deadlock over locks is over once its victim has let go of what it held."""
    return code not in NOT_RETRIED or (isinstance(error, DeadlockError) and bool(error.facts.get("passing")))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``tries``: attempts in all. The n-th delay is drawn from 0 to ``min(cap, backoff * factor ** (n - 1))`` seconds."""

    tries: int = 3
    backoff: float = 0.5
    factor: float = 2.0
    cap: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.tries, bool) or not isinstance(self.tries, int) or not 1 <= self.tries <= 1_000_000:
            raise InvalidInputError(f"tries={self.tries!r}: a whole number, at least one, at most a million")
        if isinstance(self.factor, bool) or not isinstance(self.factor, int | float) or not 1 <= self.factor <= 1_000:
            raise InvalidInputError(f"factor={self.factor!r}: a number from 1 (the delays do not grow) to 1,000")
        for name in ("backoff", "cap"):
            if not 0 <= getattr(self, name) <= MAX_SECONDS:
                raise InvalidInputError(f"{name}={getattr(self, name)}: a number of seconds, not negative, at most a hundred years")

    @classmethod
    def of(cls, policy: Settings, stored: str | None) -> RetryPolicy:
        """The policy of a task: its own, or the settings'."""
        if stored is not None:
            return cls(**decode(stored))
        return cls(policy.tries, policy.backoff, policy.backoff_factor, policy.backoff_cap)

    def stored(self) -> str:
        return encode(asdict(self))

    def delay(self, failures: int, draw: float) -> float:
        """Seconds to wait after the ``failures``-th failure; ``draw`` in [0, 1) comes from the caller."""
        try:
            most = min(self.cap, self.backoff * self.factor ** (failures - 1))
        except OverflowError:
            most = self.cap
        return most * draw if self.jitter else most
