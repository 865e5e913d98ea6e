"""The samples, each run as its reader would, and the programs of the guide and the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .model_server import ModelServer

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
PATIENCE = 50
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = {
    "first_program": "a long tex\n",
    "retries_and_dead_letters": """\
done on attempt 3
InvalidInputError after 1 attempt
dead letter: the service is down
attempts: ['failed', 'failed', 'failed']
sent letter True
""",
    "priorities_and_lanes": """\
by priority: ['critical', 'normal', 'low']
lane a: ['a1', 'a2', 'a3']
lane b: ['b1', 'b2', 'b3']
two of one lane at once: False
both lanes at once: True
""",
    "children": """\
total: 13
attempts: 2
pages fetched: 3
""",
    "cancel_and_deadlines": """\
timeout ends the task: TaskExpiredError
attempt_timeout fails the attempt: RemoteError attempt 2 did not end within 0.1 s
result(timeout=) ends only the wait: done
cancel: True
its result: TaskCancelledError
cancel once more: False
ttl ends what nobody began: TaskExpiredError
handlers stopped: 4
""",
    "two_processes": """\
killed a worker while it ran a task
[0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225, 256, 289, 324, 361]
interrupted and run again: {'crashed'}
ended with: [-9, 143]
""",
    "broadcast_and_events": """\
error: eve abstains
ann: yes
bob: no
1 task.delegated
2 task.accepted
3 task.started
4 task.progressed thinking
5 task.completed
""",
    "plain_autogen/translator": "Translation(words='bonne nuit', number=1)\n",
    "existing_agent": """\
durable: Translation(words='bonjour', number=1)
attempt 1: failed the dictionary is away
attempt 2: succeeded
by message: Translation(words='bonne nuit', number=2)
""",
    "capability_agent": """\
tides: 3 times 'the'
on its way: searching tides for 'the'
winds: 2 times 'the'
Its longest words {'items': {'type': 'string'}, 'type': 'array'}
tides: ['lifts', 'falls']
agents made: ['tides', 'winds']
""",
    "assistant_and_team": """\
What lifts the sea? The moon.
What lights the night? The moon.
What circles the earth? The moon.
panel: The moon pulls the water up.
again: The moon pulls the water up. True
""",
    "messages_with_priorities": """\
writer has feedback: more sea, less sand
writer has task: chapter one
writer has task: make coffee
editor was told: ['result from writer/default: chapter one is written', 'status from writer/default: half of it']
request: Chapter one.
went to: ['writer/default']
went to: ['editor/default', 'writer/default']
went to: []
writer has status: the book is out
writer has status: the book is out
editor was told: status from press/default: the book is out
dead letter: not my trade
dead letter: nobody who is subscribed to 'gossip/default' was online when this was sent
""",
    "locks": """\
beside each other: repo/src/a.py repo/src/b.py
tokens grow: True
refused at once: X is held on repo/src/a.py
an intent goes with it
one lease: docs/guide.md, docs/index.md
ann holds both
converted to X under a new token: True
waited in vain: 0.02
waited, and was next
bob was refused:
   ann holds X on left
   ann waits for X on right
   bob holds X on right
   bob waits for X on left
ann has both
""",
    "editors": """\
10 editors in 3 processes
killed one that held a lock
paused another
the late write was refused, its token is smaller: True
locks lost: ['desk/a.txt', 'desk/b.txt']
every edit is there, once: True
ended with: [-9, 143, 143]
""",
    "documents": """\
ann read version 1, wrote version 2 by put
bob read version 1, wrote version 3 by merge
both stand: {'title': 'A harbour for all', 'cost': '12 ships'}
ann read version 3, wrote version 4 by put
bob read version 3, but 4 is there: the write waits for a decision
   was        12 ships
   ann        9 ships
   bob        15 ships
decided; still open: 0
1 put by chair
2 put by ann from version 1
3 merge by bob from version 1
4 put by ann from version 3
5 decide by chair from version 3
replace /title A harbour for all
replace /cost 9 to 15 ships
""",
    "memory": """\
-- a process: learn
said: Set sail at six.
-- a process: go_on
found: ['Ann has a cat, Tide.', 'Ann sails a small boat.']
the model was shown:
   UserMessage When do I leave the harbour?
   SystemMessage Relevant memory content (in chronological order): | 1. Ann's harbour is Brest. | 2. Ann has a cat, Tide.
   AssistantMessage Set sail at six.
   UserMessage When, again?
   SystemMessage Relevant memory content (in chronological order): | 1. Ann's harbour is Brest. | 2. Ann has a cat, Tide.
   AssistantMessage At six, as I said.
the next of the crew: b too
""",
}
IN_MEMORY = ["existing_agent", "capability_agent", "assistant_and_team", "messages_with_priorities", "locks", "documents"]
QUESTIONS = ["What lifts the sea?", "What lights the night?", "What circles the earth?", "Why are there tides?"]


def started(program: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program that has ended. What the developer's own environment says of models counts for nothing."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments],
        cwd=cwd, env={**own, **environment}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


def run(program: Path, *arguments: str, cwd: Path, **environment: str) -> str:
    """What a program says; it ends well, and leaves nothing unclosed."""
    done = started(program, *arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def test_every_sample_is_run() -> None:
    assert {path.relative_to(SAMPLES).with_suffix("").as_posix() for path in SAMPLES.rglob("*.py")} == set(SAID)


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SAID)
def test_a_sample_says_what_it_promises_on_a_file(name: str, tmp_path: Path) -> None:
    assert run(SAMPLES / f"{name}.py", str(tmp_path / "coord.db"), cwd=tmp_path) == SAID[name]


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_sample_in_memory_says_the_same_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    assert run(SAMPLES / f"{name}.py", cwd=tmp_path) == SAID[name]
    assert list(tmp_path.iterdir()) == []


def test_the_existing_agent_knows_nothing_of_this_package() -> None:
    imports = re.findall(r"^\s*(?:from|import) (\S+)", (SAMPLES / "plain_autogen/translator.py").read_text(encoding="utf-8"), re.M)
    assert "autogen_core" in imports
    assert not [name for name in imports if name.startswith("autogen_coord")]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.mark.process
@pytest.mark.timeout(60)
def test_agents_and_teams_talk_to_a_server_and_no_model_call_sees_two_callers(server: ModelServer, tmp_path: Path) -> None:
    told = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "secret", "OPENAI_MODEL": "small", "NO_PROXY": "127.0.0.1"}
    said = run(SAMPLES / "assistant_and_team.py", str(tmp_path / "coord.db"), cwd=tmp_path, **told)
    *asked, panel = QUESTIONS
    heard = "heard: heard: " + panel
    assert said.splitlines() == [*(f"{each} heard: {each}" for each in asked), f"panel: {heard}", f"again: {heard} True"]

    assert {(one.authorization, one.model) for one in server.requests} == {("Bearer secret", "small")}
    callers = [[question for question in QUESTIONS if question in one.text] for one in server.requests]
    assert sorted(callers) == sorted([[each] for each in asked] + [[panel]] * 4)  # two speakers, selected by two; once, not again


@pytest.mark.process
@pytest.mark.timeout(60)
def test_a_server_without_a_client_for_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("raise ImportError('not installed')", encoding="utf-8")
    told = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "PYTHONPATH": str(tmp_path)}
    done = started(SAMPLES / "assistant_and_team.py", str(tmp_path / "coord.db"), cwd=tmp_path, **told)
    assert done.returncode == 1
    assert 'pip install "autogen-ext[openai]"' in done.stderr.splitlines()[-1]


def test_the_first_program_of_the_readme_is_the_sample() -> None:
    _, _, code = (SAMPLES / "first_program.py").read_text(encoding="utf-8").partition("\n\n")
    assert blocks("README.md")[0] == code


@pytest.mark.process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", range(len(blocks("docs/guide.md"))))
def test_a_program_of_the_guide_runs(number: int, tmp_path: Path) -> None:
    code = blocks("docs/guide.md")[number]
    first = code.partition("\n")[0]
    if first.startswith("# samples/"):
        sample = ROOT / first.removeprefix("# ").strip()
        assert code.partition("\n")[2].strip() in sample.read_text(encoding="utf-8")
        return
    assert first == "# runs", "a block of the guide is an excerpt of a sample, or runs"
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    run(program, cwd=tmp_path)
