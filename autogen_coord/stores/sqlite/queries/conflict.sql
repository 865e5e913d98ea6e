-- name: load
SELECT
    id, key, base, found, value, value_blob, kind, at, actor, cause
FROM conflict
WHERE id IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO conflict (
    namespace, id, key, base, found, value, value_blob, kind, at, actor, cause
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE conflict SET
    key = ?, base = ?, found = ?, value = ?, value_blob = ?, kind = ?, at = ?, actor = ?, cause = ?
WHERE namespace = ? AND id = ?;

-- name: delete
DELETE FROM conflict WHERE namespace = ? AND id = ?;

-- name: walk_key
SELECT
    id, key, base, found, value, value_blob, kind, at, actor, cause
FROM conflict
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_key_desc
SELECT
    id, key, base, found, value, value_blob, kind, at, actor, cause
FROM conflict
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_by_key
SELECT
    id, key, base, found, value, value_blob, kind, at, actor, cause
FROM conflict INDEXED BY conflict_by_key
WHERE namespace = ? AND key >= ? AND key < ?
ORDER BY key, id
LIMIT ?;

-- name: walk_by_key_desc
SELECT
    id, key, base, found, value, value_blob, kind, at, actor, cause
FROM conflict INDEXED BY conflict_by_key
WHERE namespace = ? AND key >= ? AND key < ?
ORDER BY key DESC, id DESC
LIMIT ?;
