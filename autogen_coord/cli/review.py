"""``autogen-coord review PATH``: the demo job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core import running
from ..core.inspect import stamp
from ..errors import CoordError
from ..settings import Settings
from .printing import amount, complain

if TYPE_CHECKING:
    from ..review import Run
    from ..review.changes import Since

INCOMPLETE = 3
"""The exit code of a review that lacks answers: its report is written, and says which."""


def review(
    path: Annotated[str, typer.Argument(help="A directory, a file, or the name of an installed package.")],
    store: Annotated[str | None, typer.Option(help="The store that keeps tasks and answers. Default: settings.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The application within the store. Default: settings.")] = None,
    out: Annotated[
        Path, typer.Option(help="Report to write, without its ending; a directory takes report.md, report.json.")
    ] = Path("report"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Files at a time, per agent. Default: one per processor.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds that a tool gets for one file.")] = 30.0,
    picture: Annotated[Path | None, typer.Option(hidden=True, help="Write the view, midway, as an SVG file.")] = None,
    tally: Annotated[Path | None, typer.Option(hidden=True, help="Append a line for each execution to this file.")] = None,
) -> None:
    """Review Python code by five agents: lint, security, complexity, docstrings, and a summary.

    Each file is a durable task per agent; unchanged files are answered by the store. Killed midway, the same command finishes
    what is left. Ends with 0 when the report is whole, whatever it found, and with 3 when a tool failed on a file.
    """
    from .. import review  # AutoGen is loaded by this command alone, not by every other
    from ..review.progress import shown
    from ..review.view import Photographer

    try:
        settings = Settings.load(store=store, namespace=namespace)
        board = review.Board()
        bounds = review.Bounds(timeout=timeout) if jobs is None else review.Bounds(jobs, timeout)
        with ExitStack() as views:
            views.enter_context(shown(board))
            if picture is not None:
                views.enter_context(Photographer(board, picture, f"autogen-coord review {path}"))
            run = running.run(review.review(path, settings, board, bounds, tally, _base(out)))
    except (CoordError, OSError) as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, running.Terminated) as stop:
        typer.echo("stopped; the same command finishes what is left", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    _tell(run, as_json)


def _tell(run: Run, as_json: bool) -> None:
    from ..review.past import LEAST_DEPTH, LEAST_VALUE

    totals, stored = run.report.totals(), run.tasks - run.ran - len(run.report.failed)
    if as_json:
        counts = {"tasks": run.tasks, "ran": run.ran, "stored": stored}
        more = {"since": _since_figures(run), "kept": run.kept, "reports": [str(one) for one in run.written]}
        typer.echo(json.dumps(totals | counts | more))
    else:
        typer.echo(_words(totals))
        typer.echo(f"{amount(run.tasks, 'task')}: {run.ran} run here, {stored} answered by the store")
        if run.report.since is not None:
            typer.echo(_since(run.report.since, run.last_at or 0.0))
        typer.echo("report: " + ", ".join(str(one) for one in run.written))
    if not run.kept:
        least = f"max_value is below {LEAST_VALUE:,} bytes or max_depth below {LEAST_DEPTH}"
        typer.echo(f"findings are not kept, so that no run can say what changed: {least}", err=True)
    if run.report.failed:
        answers = amount(len(run.report.failed), "answer")
        complain(f"{answers} of tools missing, see the end of the report; the same command asks for them again")
        raise typer.Exit(INCOMPLETE)


def _since(since: Since, last_at: float) -> str:
    if since.is_nothing:
        return f"nothing changed since the last run ({stamp(last_at)})"
    return f"since the last run ({stamp(last_at)}): {'; '.join(since.sentences())}"


def _since_figures(run: Run) -> dict[str, Any] | None:
    """The lists of the report as counts."""
    since = run.report.since
    if since is None:
        return None
    figures = since.model_dump(exclude={"new", "gone", "tools"})
    return {"at": run.last_at, "new": len(since.new), "gone": len(since.gone), **figures}


def _base(out: Path) -> Path:
    if out.is_dir():
        return out / "report"
    return out.with_suffix("") if out.suffix in (".md", ".json") else out


def _words(totals: Mapping[str, int | float | str | None]) -> str:
    nouns = {
        "files": "file",
        "lines": "line",
        "findings": "finding",
        "security_issues": "security issue",
        "complex_functions": "complex function",
    }
    counts = [amount(int(totals[name] or 0), noun) for name, noun in nouns.items()]
    covered = totals["docstring_coverage"]
    counts.append("nothing to document" if covered is None else f"{covered:g}% documented")
    counts.append(amount(int(totals["syntax_errors"] or 0), "syntax error"))
    graded = [] if totals["grade"] is None else [f"grade {totals['grade']}"]
    return ", ".join([*graded, *counts, *(f"{totals[name]:,} {name}" for name in ("skipped", "failed"))])
