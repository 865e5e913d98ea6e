"""Pools: where ready tasks stand, named by who may claim them.

``capability`` (any of its providers), ``capability@provider`` (one), and ``...!alone`` (a suspect: only a process that runs nothing
else). Names of capabilities and providers hold neither ``@`` nor ``!``.
"""

from __future__ import annotations

ALONE = "!alone"


def addressed(label: str, provider: str) -> str:
    return f"{label}@{provider}"


def alone(pool: str) -> str:
    return pool if pool.endswith(ALONE) else pool + ALONE


def together(pool: str) -> str:
    return pool.removesuffix(ALONE)


def is_alone(pool: str) -> bool:
    return pool.endswith(ALONE)


def provider_in(pool: str) -> str | None:
    """The provider that a pool is for."""
    return together(pool).partition("@")[2] or None
