-- name: load
SELECT
    id, kind, address, state, lease_until, steady_since, ttl, started_at, meta
FROM session
WHERE id IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO session (
    namespace, id, kind, address, state, lease_until, steady_since, ttl, started_at, meta
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE session SET
    kind = ?, address = ?, state = ?, lease_until = ?, steady_since = ?, ttl = ?, started_at = ?, meta = ?
WHERE namespace = ? AND id = ?;

-- name: delete
DELETE FROM session WHERE namespace = ? AND id = ?;

-- name: walk_key
SELECT
    id, kind, address, state, lease_until, steady_since, ttl, started_at, meta
FROM session
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_key_desc
SELECT
    id, kind, address, state, lease_until, steady_since, ttl, started_at, meta
FROM session
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_by_state
SELECT
    id, kind, address, state, lease_until, steady_since, ttl, started_at, meta
FROM session INDEXED BY session_by_state
WHERE namespace = ? AND state = ? AND lease_until >= ? AND lease_until < ?
ORDER BY lease_until, id
LIMIT ?;

-- name: walk_by_state_desc
SELECT
    id, kind, address, state, lease_until, steady_since, ttl, started_at, meta
FROM session INDEXED BY session_by_state
WHERE namespace = ? AND state = ? AND lease_until >= ? AND lease_until < ?
ORDER BY lease_until DESC, id DESC
LIMIT ?;
