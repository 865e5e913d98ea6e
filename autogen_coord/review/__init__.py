"""The demo job: five AutoGen agents review every Python file under a path, one durable task per file and agent.

`job.review` turns files into keyed tasks and their answers into a `report.Report`. What is on its way when the process is killed
is finished by the same call in the next process; a file that did not change answers from the store. `board.Board` is what a view
looks at meanwhile.
"""

from .board import Board
from .job import Bounds, Run, review
from .report import Report
from .writing import write

__all__ = ["Board", "Bounds", "Report", "Run", "review", "write"]
