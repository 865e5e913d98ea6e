"""The measuring process of one tool: one JSON line in (``{"source": ...}``), one JSON line out, until its input ends.

Started by path, not by module name, with the tool's name and the seconds that a file may take: it loads that tool and nothing of
autogen-coord, so it is up in 0.1 to 0.2 s. It keeps nothing from one file to the next, and reads and writes no file; whoever
started it may kill it at any moment. When that one was killed it ends with its input, and it hangs no longer than told.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import signal
import sys
import tokenize
from collections.abc import Callable
from typing import Any

Measure = Callable[[str], dict[str, Any]]

INTERROGATE_OPTIONS = {
    "ignore_init_method": True,
    "ignore_magic": True,
    "ignore_overloaded_functions": True,
    "ignore_private": True,
    "ignore_property_setters": True,
    "ignore_semiprivate": True,
}
"""What needs no docstring: whatever a reader of the public interface does not see. Definitions within functions neither."""
LONGEST = 500
"""Lines of one statement above which there is no maintainability index: radon's time grows with their square (minutes for a table
of 4,000 lines), and the index of a table says nothing."""
NAMELESS = "source.py"
"""The name that tools get for the source: without a directory, so that none of them looks for its neighbours on the disk."""


class FailedError(Exception):
    """The tool itself failed on a file."""


def measurer(tool: str) -> Measure:
    """The tool, loaded; what it returns answers for one source: its findings, ``syntax_error`` or ``failed``. Raises: KeyError."""
    measure = {"bandit": _bandit, "radon": _radon, "interrogate": _interrogate}[tool]()

    def answer(source: str) -> dict[str, Any]:
        try:
            return measure(source)
        except SyntaxError as error:
            return {"syntax_error": f"line {error.lineno or 1}: {error.msg}"}
        except ValueError as error:  # a NUL byte, on some versions of Python
            return {"syntax_error": f"line 1: {error}"}
        except FailedError as error:
            return {"failed": str(error)}
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"}

    return answer


def _radon() -> Measure:
    from radon.complexity import cc_visit
    from radon.metrics import mi_visit

    def block(found: Any) -> dict[str, Any]:
        kind = {"C": "class", "M": "method", "F": "function"}[found.letter]
        return {"name": found.fullname, "kind": kind, "line": found.lineno, "complexity": found.complexity}

    def measure(source: str) -> dict[str, Any]:
        tree = ast.parse(source)
        blocks = [block(found) for found in cc_visit(source)]
        return {"blocks": blocks, "maintainability": None if _longest_statement(tree) > LONGEST else index(source)}

    def index(source: str) -> float | None:
        try:
            return round(float(mi_visit(source, multi=True)), 2)
        except SyntaxError:  # of its own way to count lines: Python has parsed the source
            return None

    return measure


def _longest_statement(tree: ast.Module) -> int:
    """Lines of the longest statement that has no others within."""
    simple = (node for node in ast.walk(tree) if isinstance(node, ast.stmt) and not hasattr(node, "body"))
    return max(((node.end_lineno or node.lineno) - node.lineno + 1 for node in simple), default=0)


def _bandit() -> Measure:
    from bandit.core.config import BanditConfig
    from bandit.core.manager import BanditManager

    config = BanditConfig()

    def measure(source: str) -> dict[str, Any]:
        ast.parse(source)  # bandit would only say that it cannot
        manager = BanditManager(config, "file")
        # its one way in that takes no path: our one call of a private name, pinned in pyproject.toml and tested
        manager._parse_file(NAMELESS, io.BytesIO(_encoded(source)), [NAMELESS])
        if manager.skipped:
            raise FailedError(manager.skipped[0][1])
        return {"issues": [_issue(found) for found in manager.get_issue_list()]}

    return measure


def _issue(found: Any) -> dict[str, Any]:
    severity, confidence = found.severity.lower(), found.confidence.lower()
    place = {"line": max(1, found.lineno or 1), "column": max(0, found.col_offset) + 1}
    return {**place, "rule": found.test_id, "severity": severity, "confidence": confidence, "message": found.text}


def _encoded(source: str) -> bytes:
    """In the encoding that the source declares: bandit decodes it by its first lines."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source.encode()).readline)
    return source.encode(encoding)


def _interrogate() -> Measure:
    from interrogate.config import InterrogateConfig
    from interrogate.visit import CoverageVisitor

    config = InterrogateConfig(**INTERROGATE_OPTIONS)

    def measure(source: str) -> dict[str, Any]:
        tree = ast.parse(source)
        visitor = CoverageVisitor(filename=NAMELESS, config=config)
        visitor.visit(tree)
        nodes = [node for node in visitor.nodes if not _is_within_function(node) and (tree.body or node.node_type != "Module")]
        missing = [_undocumented(node) for node in nodes if not node.covered]
        return {"total": len(nodes), "covered": len(nodes) - len(missing), "missing": missing}

    return measure


def _is_within_function(node: Any) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.node_type in ("FunctionDef", "AsyncFunctionDef"):
            return True
        parent = parent.parent
    return False


def _undocumented(node: Any) -> dict[str, Any]:
    if node.node_type == "Module":
        return {"name": "module", "kind": "module", "line": 1}
    kind = "class" if node.node_type == "ClassDef" else "method" if node.level > 1 else "function"
    return {"name": node.path.partition(":")[2], "kind": kind, "line": node.lineno}


def main(tool: str, seconds: float) -> None:
    """Serve until standard input ends, or until a file took ``seconds``: the alarm ends us when nobody is left who would.

    What a tool prints goes to standard error: standard output is for answers alone.
    """
    logging.disable()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        measure = measurer(tool)
        for line in sys.stdin.buffer:
            _alarm(seconds)
            answers.write(json.dumps(measure(json.loads(line)["source"])) + "\n")
            answers.flush()
            _alarm(0)


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
