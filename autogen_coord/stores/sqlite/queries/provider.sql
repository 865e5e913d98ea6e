-- name: load
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider
WHERE id IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO provider (
    namespace, id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels,
    registered_at
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE provider SET
    session = ?, via = ?, capability = ?, version = ?, kind = ?, agent_type = ?, agent_key = ?, status = ?,
    max_concurrency = ?, labels = ?, registered_at = ?
WHERE namespace = ? AND id = ?;

-- name: delete
DELETE FROM provider WHERE namespace = ? AND id = ?;

-- name: walk_key
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_key_desc
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_by_capability
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider INDEXED BY provider_by_capability
WHERE namespace = ? AND capability = ? AND status = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_by_capability_desc
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider INDEXED BY provider_by_capability
WHERE namespace = ? AND capability = ? AND status = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_by_session
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider INDEXED BY provider_by_session
WHERE namespace = ? AND session = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_by_session_desc
SELECT
    id, session, via, capability, version, kind, agent_type, agent_key, status, max_concurrency, labels, registered_at
FROM provider INDEXED BY provider_by_session
WHERE namespace = ? AND session = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;
