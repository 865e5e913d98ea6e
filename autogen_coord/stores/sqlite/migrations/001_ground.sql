-- The first ground. Times are epoch seconds of the store's clock, bodies JSON text; text compares by code point (BINARY).
-- A table is its primary key's tree (WITHOUT ROWID), except where rows carry bodies: there a tree of fat rows was slower to write
-- (8 %) and to load (up to half) than a table with its rowid (measured). An index ends with the key, which breaks ties.

CREATE TABLE clock (
    boot_id TEXT NOT NULL,
    anchor REAL NOT NULL,
    high REAL NOT NULL
);

CREATE TABLE task (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    capability TEXT NOT NULL,
    target TEXT,
    input TEXT,
    input_blob TEXT,
    input_hash TEXT NOT NULL,
    key TEXT,
    priority REAL NOT NULL,
    sender TEXT,
    recipient TEXT,
    correlation TEXT,
    causation TEXT,
    trace TEXT,
    parent TEXT,
    step_key TEXT,
    lane TEXT,
    sticky TEXT,
    ready_at REAL NOT NULL,
    deadline REAL,
    expires_at REAL,
    timeout REAL NOT NULL,
    retry TEXT,
    submitted_at REAL NOT NULL,
    requeued_from TEXT,
    PRIMARY KEY (namespace, id)
);

CREATE INDEX task_by_key ON task (namespace, capability, key, seq, id)
    WHERE key IS NOT NULL;

CREATE INDEX task_by_parent ON task (namespace, parent, seq, id)
    WHERE parent IS NOT NULL;

CREATE INDEX task_by_step ON task (namespace, parent, step_key, seq, id)
    WHERE step_key IS NOT NULL;

CREATE INDEX task_by_correlation ON task (namespace, correlation, seq, id)
    WHERE correlation IS NOT NULL;

CREATE INDEX task_by_origin ON task (namespace, requeued_from, seq, id)
    WHERE requeued_from IS NOT NULL;

CREATE TABLE queue (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    capability TEXT NOT NULL,
    state TEXT NOT NULL,
    pool TEXT NOT NULL,
    rank REAL NOT NULL,
    lane TEXT,
    place INTEGER,
    priority REAL NOT NULL,
    ready_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    session TEXT,
    provider TEXT,
    started_at REAL,
    deadline REAL,
    expires_at REAL,
    timeout REAL NOT NULL,
    cancel_at REAL,
    due REAL,
    parent TEXT,
    waits_for TEXT,
    children INTEGER NOT NULL,
    avoid TEXT,
    progress TEXT,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID;

CREATE INDEX queue_ready ON queue (namespace, pool, rank, seq, id)
    WHERE state = 'ready';

CREATE INDEX queue_by_lane ON queue (namespace, lane, place, rank, seq, id)
    WHERE lane IS NOT NULL;

CREATE INDEX queue_by_session ON queue (namespace, session, seq, id)
    WHERE session IS NOT NULL;

CREATE INDEX queue_by_due ON queue (namespace, due, id)
    WHERE due IS NOT NULL;

CREATE INDEX queue_by_parent ON queue (namespace, parent, seq, id)
    WHERE parent IS NOT NULL;

CREATE TABLE outcome (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    capability TEXT NOT NULL,
    output TEXT,
    output_blob TEXT,
    error TEXT,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    session TEXT,
    provider TEXT,
    started_at REAL,
    finished_at REAL NOT NULL,
    PRIMARY KEY (namespace, id)
);

CREATE INDEX outcome_by_finish ON outcome (namespace, finished_at, id);

CREATE INDEX outcome_by_state ON outcome (namespace, state, finished_at, id);

CREATE TABLE attempt (
    namespace TEXT NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    provider TEXT,
    session TEXT,
    started_at REAL,
    ended_at REAL NOT NULL,
    "end" TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (namespace, task, number)
) WITHOUT ROWID;

CREATE TABLE session (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    lease_until REAL NOT NULL,
    steady_since REAL NOT NULL,
    ttl REAL NOT NULL,
    started_at REAL NOT NULL,
    meta TEXT,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID;

CREATE INDEX session_by_state ON session (namespace, state, lease_until, id);

CREATE TABLE provider (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    session TEXT NOT NULL,
    via TEXT NOT NULL,
    capability TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    agent_type TEXT,
    agent_key TEXT,
    status TEXT NOT NULL,
    max_concurrency INTEGER NOT NULL,
    labels TEXT,
    registered_at REAL NOT NULL,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID;

CREATE INDEX provider_by_capability ON provider (namespace, capability, status, id);

CREATE INDEX provider_by_session ON provider (namespace, session, id);

CREATE TABLE capability (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    description TEXT NOT NULL,
    input_schema TEXT NOT NULL,
    output_schema TEXT NOT NULL,
    words TEXT,
    announced_at REAL NOT NULL,
    PRIMARY KEY (namespace, name, version)
) WITHOUT ROWID;

CREATE TABLE event (
    namespace TEXT NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    session TEXT,
    data TEXT,
    PRIMARY KEY (namespace, number)
) WITHOUT ROWID;

CREATE TABLE blob (
    namespace TEXT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    refs INTEGER NOT NULL,
    PRIMARY KEY (namespace, hash)
);

CREATE TABLE counter (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
