-- The shared state. Documents and their changes carry bodies: tables with a rowid, as in 001. A document's new version is written
-- over the old one in place; what stood there is appended to the changes.

CREATE TABLE document (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT,
    value_blob TEXT,
    kind TEXT NOT NULL,
    base INTEGER,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    created_at REAL NOT NULL,
    actor TEXT,
    cause TEXT,
    token INTEGER,
    fenced INTEGER,
    changes INTEGER NOT NULL,
    deleted_at REAL,
    PRIMARY KEY (namespace, key)
);

CREATE INDEX document_by_deleted ON document (namespace, deleted_at, key)
    WHERE deleted_at IS NOT NULL;

CREATE TABLE document_change (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT,
    value_blob TEXT,
    kind TEXT NOT NULL,
    base INTEGER,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    created_at REAL NOT NULL,
    actor TEXT,
    cause TEXT,
    token INTEGER,
    PRIMARY KEY (namespace, key, version)
);

CREATE TABLE snapshot (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    prefix TEXT NOT NULL,
    actor TEXT,
    note TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;

CREATE TABLE conflict (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    key TEXT NOT NULL,
    base INTEGER NOT NULL,
    found INTEGER NOT NULL,
    value TEXT,
    value_blob TEXT,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    actor TEXT,
    cause TEXT,
    PRIMARY KEY (namespace, id)
);

CREATE INDEX conflict_by_key ON conflict (namespace, key, id);

CREATE TABLE state_policy (
    namespace TEXT NOT NULL,
    prefix TEXT NOT NULL,
    policy TEXT NOT NULL,
    reducers TEXT,
    at REAL NOT NULL,
    actor TEXT,
    PRIMARY KEY (namespace, prefix)
) WITHOUT ROWID;
