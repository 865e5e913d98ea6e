"""Kills processes that submit and work, round after round, and counts: lost, doubled, and how soon their tasks ran elsewhere.

rounds              short sessions, for many faults: what was lost, ended twice or wrongly, of what was acknowledged
reassigned          default settings: from a kill to the first of its running tasks running elsewhere, at most; aim 4 s
reassigned-p50      the same, in the median
suspects            default settings: for all tasks that ran at a kill (they run alone, one after the other), at most

``--seed`` names the faults and their moments; a failure prints the seed, and ends with status 1.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks._report import Figure, Report, arguments, say
from tests.integration.workers.faults import Faults, Plan, Tally, unhurried

AIM = 4.0


def run(plan: Plan) -> Tally:
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
        return asyncio.run(Faults(plan, Path(folder)).run(settle=120))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--unhurried", type=int, default=5, metavar="ROUNDS", help="rounds with default settings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    report = Report("kill", options.json)
    quick = run(Plan(options.seed, options.rounds))
    bad = quick.lost + quick.doubled + quick.wrong
    report.add(Figure("rounds", bad, "tasks", "acknowledged", quick.acknowledged, quick.facts()))
    tallies = [quick]
    if options.unhurried:
        slow = run(unhurried(options.seed, options.unhurried))
        tallies.append(slow)
        facts = slow.facts()
        if slow.first:
            report.add(Figure("reassigned", max(slow.first), "s", "the aim", AIM, facts))
            report.add(Figure("reassigned-p50", median(slow.first), "s", "the aim", AIM))
            report.add(Figure("suspects", max(slow.suspects), "s", "the aim", AIM))
    for tally in tallies:
        for complaint in tally.complaints:
            say(f"seed {tally.seed}, {tally.rounds} rounds: {complaint}")
    sys.exit(any(tally.complaints for tally in tallies))


if __name__ == "__main__":
    main()
