"""Every form of a provider on every runtime: value, None, exception, bad output, deadline, cancel. The docs' table is made here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.provider_forms import FORMS, Form
from tests.conformance.provider_measures import BEGIN, END, Results, expected, measure, table
from tests.conformance.provider_runtimes import RUNTIMES

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
measured: dict[tuple[str, str], Results] = {}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_a_form_keeps_the_promises_on_a_runtime(form: type[Form], runtime: str) -> None:
    found = measured[form.name, runtime] = await measure(form, runtime)
    assert found == expected(form, runtime)


@pytest.mark.timeout(180)
async def test_the_table_of_the_docs_is_what_was_measured() -> None:
    """AUTOGEN_COORD_WRITE_TABLES=1 writes it."""
    for form in FORMS:
        for runtime in RUNTIMES:
            if (form.name, runtime) not in measured:
                measured[form.name, runtime] = await measure(form, runtime)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("AUTOGEN_COORD_WRITE_TABLES") == "1":
        PAGE.write_text(f"{before}{BEGIN}{table(measured)}{END}{after}", encoding="utf-8")
    else:
        assert written == table(measured), "run this test with AUTOGEN_COORD_WRITE_TABLES=1, and read what changed"
