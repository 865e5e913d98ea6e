"""The demo job: lint and complexity of every Python file under a path, one durable task per file and tool.

`job.review` turns files into keyed tasks and their answers into a `report.Report`. What is on its way when the process is killed
is finished by the same call in the next process; a file that did not change answers from the store.
"""

from .job import Run, review
from .report import Report, write

__all__ = ["Report", "Run", "review", "write"]
