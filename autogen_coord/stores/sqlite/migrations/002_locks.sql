-- Locks: what is held, and who waits.

CREATE TABLE lock_held (
    namespace TEXT NOT NULL,
    path TEXT NOT NULL,
    id TEXT NOT NULL,
    mode TEXT NOT NULL,
    owner TEXT,
    token INTEGER NOT NULL,
    session TEXT NOT NULL,
    task TEXT,
    attempt INTEGER NOT NULL,
    priority REAL NOT NULL,
    since REAL NOT NULL,
    born REAL NOT NULL,
    PRIMARY KEY (namespace, path, id)
) WITHOUT ROWID;

CREATE INDEX lock_held_by_mode ON lock_held (namespace, mode, path, id);

CREATE INDEX lock_held_by_session ON lock_held (namespace, session, path, id);

CREATE INDEX lock_held_by_owner ON lock_held (namespace, owner, path, id)
    WHERE owner IS NOT NULL;

CREATE INDEX lock_held_by_task ON lock_held (namespace, task, path, id)
    WHERE task IS NOT NULL;

CREATE TABLE lock_wait (
    namespace TEXT NOT NULL,
    path TEXT NOT NULL,
    id TEXT NOT NULL,
    mode TEXT NOT NULL,
    wants TEXT NOT NULL,
    owner TEXT,
    session TEXT NOT NULL,
    task TEXT,
    attempt INTEGER NOT NULL,
    priority REAL NOT NULL,
    rank REAL NOT NULL,
    arrived INTEGER NOT NULL,
    since REAL NOT NULL,
    born REAL NOT NULL,
    within TEXT,
    PRIMARY KEY (namespace, path, id)
) WITHOUT ROWID;

CREATE INDEX lock_wait_by_place ON lock_wait (namespace, path, rank, arrived, id);

CREATE INDEX lock_wait_by_session ON lock_wait (namespace, session, path, id);

CREATE INDEX lock_wait_by_task ON lock_wait (namespace, task, path, id)
    WHERE task IS NOT NULL;
