"""The measuring process: one JSON line in (``{"source": ...}``), one JSON line out, until its input ends.

Started by path, not by module name: it loads radon and nothing of autogen-coord, so it is up in 0.1 s. It has no state; whoever
started it may kill it at any moment.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from radon.complexity import cc_visit
from radon.metrics import mi_visit


def measure(source: str) -> dict[str, Any]:
    """Blocks with their complexity, and the maintainability index; or why the source cannot be parsed or measured."""
    try:
        return {"blocks": [_block(block) for block in cc_visit(source)], "maintainability": round(mi_visit(source, multi=True), 2)}
    except SyntaxError as error:
        return {"syntax_error": f"line {error.lineno or 1}: {error.msg}"}
    except ValueError as error:  # a NUL byte, on some versions of Python
        return {"syntax_error": f"line 1: {error}"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def _block(block: Any) -> dict[str, Any]:
    kind = {"C": "class", "M": "method", "F": "function"}[block.letter]
    return {"name": block.fullname, "kind": kind, "line": block.lineno, "complexity": block.complexity}


def main() -> None:
    for line in sys.stdin.buffer:
        answer = json.dumps(measure(json.loads(line)["source"]))
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
