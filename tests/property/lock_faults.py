"""Planted faults of the lock rules: each takes one promise out of them (see `tests.property.faults`)."""

from __future__ import annotations

from autogen_coord.core import deadlocks, lock_modes, lock_queue, locks

from .faults import Fault, _fault

EXCLUSION = ("exclusion", "grants")
"""What notices that who should wait does not: it was granted beside another, or passed one."""

FAULTS: tuple[Fault, ...] = (
    # what excludes what
    _fault("a conflict at the path is forgotten", lock_queue, "_at_and_below", "if other in at or", "if", *EXCLUSION),
    _fault("a conflict above is forgotten", lock_queue, "_above", "if other in ABOVE[mode]]", "if False]", *EXCLUSION),
    _fault("a conflict below is forgotten", lock_queue, "_at_and_below", "end_of(path) if other in below else", "", *EXCLUSION),
    _fault(
        "a conflict below is forgotten by X", lock_queue, "_whole",
        "(), path, end_of(path)", '(), path, path + "\\x01"', *EXCLUSION,
    ),
    _fault("what covers a free lock is forgotten", lock_queue, "is_free", "_all_above(_parent(path))", "()", *EXCLUSION),
    _fault("who waits for a free lock is forgotten", lock_queue, "is_free", "if waiting(rows):", "if False:", "order"),
    _fault("what lies beside is taken for below", lock_queue, "end_of", '"0"', '"1"', "grants", "refusals"),
    _fault("only the first path is looked at", lock_queue, "holders", "request.wants", "request.wants[:1]", *EXCLUSION),
    _fault("a dead session's lock counts", lock_queue, "holders", "and is_live(rows, row.session)", "", "grants", "refusals"),
    _fault("an owner is in its own way", lock_queue, "of_one_party", "one.owner is None or", "True or", "grants", "refusals"),
    _fault("nobody is an owner of his own", lock_queue, "of_one_party", "one.owner is None or", "", *EXCLUSION),
    _fault(
        "two attempts of a task are one owner", lock_queue, "of_one_party",
        "or one.attempt == other.attempt", "or True", *EXCLUSION,
    ),
    _fault(
        "a conversion is in its own way", lock_queue, "of_one_party",
        "one.lease == other.lease", "one.lease == other.lease and False", "grants", "refusals", "deadlocks",
    ),
    _fault("a long range ends at its first page", lock_queue, "_pages", "if len(found) < limit:", "if True:", *EXCLUSION),
    # the line
    _fault("an earlier waiter is passed", lock_queue, "earlier", "if request.rank == FIRST or", "if True or", "order", "grants"),
    _fault("an earlier waiter above is passed", lock_queue, "_line", "for above in ancestors(path)", "for above in ()", "order"),
    _fault("an earlier waiter below is passed", lock_queue, "_line", "if BELOW[mode]:", "if False:", "order"),
    _fault(
        "an earlier waiter is passed by who gets the lock of another", lock_queue, "_fitting",
        "and not any(earlier(rows, request))", "", "order",
    ),
    _fault("a dead waiter is waited for", lock_queue, "earlier", "and is_live(rows, row.session)", "", "grants", "refusals"),
    _fault(
        "a conversion stands in line", lock_queue, "earlier",
        "request.rank == FIRST or", "", "grants", "refusals", "forgotten", "deadlocks",
    ),
    _fault("who has it all stands in line", locks, "_has_it", "if request.owner is None:", "if True:", "grants", "refusals"),
    _fault("who has a part of it does not stand in line", locks, "_has_it", "return all(", "return any(", "order"),
    _fault("conversions in any order", lock_queue, "_next", "(one.rank, one.arrived)", "-one.arrived", "order"),
    _fault("priority ignored", locks, "acquire", "command.priority, policy)", "0.0, policy)", "rows of a lock", "order"),
    _fault(
        "arrival ignored", lock_queue, "Request.comes_before",
        "(self.rank, self.arrived) < (row.rank, row.arrived)", "self.rank < row.rank", "deadlocks", "order", "forgotten",
    ),
    # who is next
    _fault("who waits above is forgotten", lock_queue, "_next", "(path, *ancestors(path))", "(path,)", "forgotten"),
    _fault("who waits below is forgotten", lock_queue, "_next", 'end_of(path))', 'path + "\\x02")', "forgotten"),
    _fault("who waits at the path is forgotten", lock_queue, "_next", "(path, *ancestors(path))", "ancestors(path)", "forgotten"),
    _fault("nobody is looked at behind one who wants it whole", lock_queue, "_next_at", "row.owner is None and", "", "forgotten"),
    _fault("nobody is looked at behind a conversion", lock_queue, "_next_at", "row.rank != FIRST and", "", "forgotten"),
    _fault("nobody is looked at behind the dead", lock_queue, "_next_at", "and is_live(rows, row.session)", "", "forgotten"),
    _fault("those granted together exclude each other", lock_queue, "_fitting", "and not _meets(request, given)", "", "exclusion"),
    _fault(
        "those granted together are of one owner", lock_queue, "_meets",
        "not all(of_one_party(request, other) for other in others)", "True", "forgotten",
    ),
    _fault("the dead are granted", lock_queue, "_fitting", "is_live(rows, row.session) and", "", "grants", "exclusion"),
    _fault("a release wakes nobody", locks, "release", "deadlocks.admit(", "(lambda *a: None)(", "forgotten"),
    _fault("who gives up wakes nobody", locks, "give_up", "deadlocks.admit(", "(lambda *a: None)(", "forgotten"),
    _fault("an eviction wakes nobody", locks, "evict", "deadlocks.admit(", "(lambda *a: None)(", "forgotten"),
    _fault("a handler's end wakes nobody", locks, "stop", "deadlocks.admit(", "(lambda *a: None)(", "forgotten"),
    _fault("a burial wakes nobody", locks, "bury", "deadlocks.admit(", "(lambda *a: None)(", "forgotten"),
    _fault("a refusal wakes nobody", deadlocks, "break_cycles", "todo += ", "todo += [] and ", "forgotten"),
    _fault(
        "a burial forgets where else the dead waited", locks, "_withdrawn",
        "freed += [want.path for want in lock_queue.wants_of(row)]", "freed.append(row.path)", "forgotten",
    ),
    _fault(
        "a part of a request stays", lock_queue, "leave",
        "in wants_of(row)]", "in wants_of(row)[:1]]", "rows of a lock", "waiting", "crash",
    ),
    _fault("waiting is not counted", lock_queue, "enqueue", "count(rows, WAITING)", "pass", "waiting", "order", "forgotten"),
    _fault("who waits no more is counted", lock_queue, "leave", "count(rows, WAITING, -1)", "pass", "waiting"),
    # tokens and fences
    _fault(
        "a token is given twice", lock_queue, "_token",
        "_count_on(rows, TOKEN)", "max(1, getattr(rows.one(COUNTER, TOKEN), 'value', 1))", "tokens",
    ),
    _fault(
        "a token for each path", lock_queue, "grant",
        "row.owner, token,", "row.owner, _token(rows, now),", "grants", "rows of a lock",
    ),
    _fault(
        "a conversion keeps its token", lock_queue, "grant",
        "token = _token(rows, now)",
        "kept = rows.one(LOCK_HELD, (request.wants[0].path, request.lease))\n    token = kept.token if kept else _token(rows, now)",
        "tokens",
    ),
    _fault("any token will do", locks, "require_cover", "row.token != guard.token", "False", "fence"),
    _fault(
        "a token of another store will do", locks, "require_cover",
        "if any(row.token != guard.token for row in held):", "if False:", "fence",
    ),
    _fault("any lock will do", locks, "require_cover", "if not any(covers(", "if not any(True or (", "fence"),
    _fault(
        "a lock below will do", locks, "require_cover",
        "covers(row.mode, row.path, mode, path)",
        "(covers(row.mode, row.path, mode, path) or covers(mode, path, row.mode, row.path))", "fence",
    ),
    _fault("an intent is a right below", lock_modes, "below", "{S: S,", "{IS: IS, IX: IX, S: S,", "fence", "order"),
    _fault("the dead write", locks, "mine", "or not is_live(rows, session)", "", "fence", "refusals"),
    _fault("another session's lease will do", locks, "mine", "and row.session == session", "", "fence", "refusals"),
    # giving back
    _fault("anybody releases", locks, "release", "if row.session == command.session", "if True", "freed", "answers of a lock"),
    _fault(
        "anybody takes a request back", locks, "release",
        "and waits.session == command.session", "", "answers of a lock", "rows of a lock", "refusals",
    ),
    _fault(
        "anybody gives up for another", locks, "give_up",
        "or waits.session != command.session", "", "answers of a lock", "rows of a lock", "refusals",
    ),
    _fault(
        "an evicted lease is converted", locks, "evict",
        "freed = _withdrawn(", "freed: list[str] = [] and _withdrawn(", "rows of a lock",
    ),
    _fault(
        "another attempt's locks are freed", locks, "stop",
        "(row.session, row.attempt) == (command.session, command.attempt)]\n    freed += ", "row]\n    freed += ", "freed",
        "answers of a lock",
    ),
    _fault(
        "a stopped handler waits on", locks, "stop",
        "freed = _withdrawn(", "freed: list[str] = [] and _withdrawn(", "rows of a lock",
    ),
    _fault(
        "what was given back is granted anew", locks, "bury",
        "freed = _withdrawn(rows, waits)", "freed: list[str] = []", "rows of a lock", "grants", "leak", "burial", "slices",
    ),
    _fault("a slice is everything", locks, "bury", "limit=most - len(waits)", "limit=None", "slices"),
    _fault("a release of the dead was in time", locks, "release", "lives and bool(freed)", "bool(freed)", "answers of a lock"),
    _fault("a release of the dead is told as one", locks, "release", "if lives else", "if True else", "freed"),
    _fault("a loss is told as a release", locks, "evict", "Kind.RESOURCE_LOST", "Kind.RESOURCE_UNLOCKED", "freed"),
    # asking
    _fault("a dead session acquires", locks, "acquire", "require(rows, command.session)", "pass", "refusals", "grants"),
    _fault("a handler without claim acquires", locks, "_born", "if claims.held(", "if False and claims.held(", "refusals"),
    _fault("a repeated request is a new one", locks, "acquire", "if known is not None:", "if False:", "crash", "repeats"),
    _fault("a part of a lease is the lease", locks, "_known", "    if held:\n", "    if False:\n", "crash", "refusals"),
    _fault(
        "another conversion is the same", locks, "convert",
        "and waits.id == command.id", "", "answers of a lock", "rows of a lock", "refusals", "repeats",
    ),
    _fault("a repeated conversion is a new one", locks, "convert", "waits.id == command.id", "False", "refusals", "repeats"),
    _fault(
        "a conversion that nobody awaits waits on", locks, "convert",
        "_withdrawn(rows, [waits])", "_withdrawn(rows, [])", "rows of a lock",
    ),
    _fault(
        "who waited behind a replaced conversion is forgotten", locks, "_settle",
        "rows, lock_queue.admit(rows, freed, now))], now)", "rows, [])], now)", "forgotten",
    ),
    _fault(
        "who waited behind a conversion that was needless is forgotten", locks, "convert",
        "deadlocks.admit(rows, freed, now)", "pass", "forgotten",
    ),
    _fault("a conversion is told as an acquisition", lock_queue, "grant", "token, conversion)", "token)", "grants"),
    _fault(
        "a conversion of the past was granted", locks, "give_up",
        "if command.id in (first.id, first.conversion) else None", "", "answers of a lock",
    ),
    _fault(
        "a released lease is converted", locks, "release",
        "or lock_queue.conversion_at(rows, place, command.id)", "", "rows of a lock", "grants", "crash", "leak",
    ),
    _fault(
        "a conversion forgets what it had", locks, "convert",
        "combine(row.mode, command.mode)", "command.mode", "rows of a lock", "grants", "repeats",
    ),
    _fault("who will not wait waits", locks, "_settle", "if not wait:", "if False:", "refusals"),
    # circles
    _fault("no circle is looked for", deadlocks, "break_cycles", "todo = list(new)", "todo: list[Node] = []", "deadlocks"),
    _fault(
        "an edge from what encloses is missing", deadlocks, "_enclosing",
        "if row.within is not None:", "if False:", "deadlocks",
    ),
    _fault(
        "an edge from an owner's lock is missing", deadlocks, "_enclosing",
        "if row.owner is not None:", "if False:", "deadlocks",
    ),
    _fault("an edge from a parent is missing", deadlocks, "_enclosing", "if row.task is not None:", "if False:", "deadlocks"),
    _fault(
        "an edge from a parent's parent is missing", deadlocks, "_of_parents",
        "while child is not None and child.parent is not None:", "if child is not None and child.parent is not None:", "deadlocks",
    ),
    _fault("an edge to an earlier waiter is missing", deadlocks, "_waits_for", "request.comes_before(row)", "False", "deadlocks"),
    _fault("an edge from above is missing", deadlocks, "Line.around", "or path.startswith(row.path)", "", "deadlocks"),
    _fault("an edge from below is missing", deadlocks, "Line.around", "row.path.startswith(path) or", "", "deadlocks"),
    _fault("an edge from above is missing among many", deadlocks, "Line.around", "*ancestors(path)", "", "deadlocks"),
    _fault("an edge from below is missing among many", deadlocks, "Line.around", "end_of(path)", 'path + "\\x02"', "deadlocks"),
    _fault(
        "a conversion holds nothing up", locks, "convert",
        "((one.path, one.id) for one in held)", "()", "deadlocks", "rows of a lock",
    ),
    _fault("a conversion is inside of nothing", locks, "convert", ", *command.within]", "]", "deadlocks", "rows of a lock"),
    _fault(
        "an attempt that is over waits", deadlocks, "_of_parents",
        "(one.session, one.attempt) == claim", "True", "deadlocks",
    ),
    _fault("the dead wait", deadlocks, "_excluded", "and is_live(line.rows, row.session)", "", "deadlocks"),
    _fault("the locks of the dead are waited for", deadlocks, "_enclosing", "and is_live(rows, one.session)", "", "deadlocks"),
    _fault(
        "a circle that a grant closes is overlooked", deadlocks, "suspects",
        "if lock_queue.waiting(rows) == 0:", "if True:", "deadlocks",
    ),
    _fault("a circle that a conversion closes is overlooked", deadlocks, "suspects", "not grant.is_new or", "", "deadlocks"),
    _fault("a circle that an owner closes is overlooked", deadlocks, "suspects", "row.owner is not None or", "", "deadlocks"),
    _fault("a circle that a parent closes is overlooked", deadlocks, "_has_children", "task.children > 0", "False", "deadlocks"),
    _fault("one circle is enough", deadlocks, "break_cycles", "        todo += suspects(", "        todo = suspects(", "deadlocks"),
    _fault("the oldest is refused", deadlocks, "_worth", "-row.born", "row.born", "victims"),
    _fault("who asks is refused", deadlocks, "break_cycles", "key=_worth", "key=lambda one: -one.arrived", "victims"),
    _fault("the highest priority is refused", deadlocks, "_worth", "row.priority,", "-row.priority,", "victims"),
    _fault("a circle is misnamed", deadlocks, "_walk", "[cycle[-1], *cycle[:-1]]", "cycle[::-1]", "named"),
    # the same everywhere
    _fault(
        "state outside the rows", lock_queue, "_count_on",
        "counter.value if counter else 0", "globals().__setitem__('_n', globals().get('_n', 0) + 1) or globals()['_n'] - 1", "rows",
        "answers", "crash",
    ),
    _fault(
        "a clock used inside a rule", lock_queue, "grant",
        "*whose, now,", "*whose, now + __import__('time').time() % 1,", "rows", "answers", "rows of a lock",
    ),
)  # fmt: skip
