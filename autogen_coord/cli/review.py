"""``autogen-coord review PATH``: the demo job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..core import running
from ..errors import CoordError
from ..settings import Settings
from .printing import amount


def review(
    path: Annotated[str, typer.Argument(help="A directory, a file, or the name of an installed package.")],
    store: Annotated[str | None, typer.Option(help="The store that keeps tasks and answers. Default: settings.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The application within the store. Default: settings.")] = None,
    out: Annotated[
        Path, typer.Option(help="Report to write, without its ending; a directory takes report.md, report.json.")
    ] = Path("report"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Files at a time, per tool. Default: one per processor.")] = None,
) -> None:
    """Review Python code: lint and complexity of every file, as durable tasks.

    Unchanged files are answered by the store. Killed midway, the same command finishes what is left.
    """
    from ..review import job, report  # AutoGen is loaded by this command alone, not by every other
    from ..review.progress import progress_on

    try:
        settings = Settings.load(store=store, namespace=namespace)
        with progress_on() as progress:
            run = running.run(job.review(path, settings, progress, jobs))
        paths = report.write(run.report, _base(out))
    except (CoordError, OSError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, running.Terminated) as stop:
        typer.echo("stopped; the same command finishes what is left", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    stored = run.tasks - run.ran
    if as_json:
        summary = run.report.summary() | {"tasks": run.tasks, "ran": run.ran, "stored": stored}
        typer.echo(json.dumps(summary | {"reports": [str(one) for one in paths]}))
    else:
        typer.echo(_words(run.report.summary()))
        typer.echo(f"{amount(run.tasks, 'task')}: {run.ran} run here, {stored} answered by the store")
        typer.echo("report: " + ", ".join(str(one) for one in paths))


def _base(out: Path) -> Path:
    if out.is_dir():
        return out / "report"
    return out.with_suffix("") if out.suffix in (".md", ".json") else out


def _words(summary: dict[str, int | float | None]) -> str:
    nouns = {"files": "file", "lines": "line", "findings": "finding", "complex_functions": "complex function"}
    counts = [amount(int(summary[name] or 0), noun) for name, noun in (nouns | {"syntax_errors": "syntax error"}).items()]
    return ", ".join([*counts, *(f"{summary[name]:,} {name}" for name in ("skipped", "failed"))])
