-- name: load
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token, fenced, changes,
    deleted_at
FROM document
WHERE key IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO document (
    namespace, key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token, fenced,
    changes, deleted_at
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE document SET
    version = ?, value = ?, value_blob = ?, kind = ?, base = ?, number = ?, at = ?, created_at = ?, actor = ?,
    cause = ?, token = ?, fenced = ?, changes = ?, deleted_at = ?
WHERE namespace = ? AND key = ?;

-- name: delete
DELETE FROM document WHERE namespace = ? AND key = ?;

-- name: walk_key
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token, fenced, changes,
    deleted_at
FROM document
WHERE namespace = ? AND key >= ? AND key < ?
ORDER BY key
LIMIT ?;

-- name: walk_key_desc
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token, fenced, changes,
    deleted_at
FROM document
WHERE namespace = ? AND key >= ? AND key < ?
ORDER BY key DESC
LIMIT ?;

-- name: walk_by_deleted
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token, fenced, changes,
    deleted_at
FROM document INDEXED BY document_by_deleted
WHERE namespace = ? AND deleted_at IS NOT NULL AND deleted_at >= ? AND deleted_at < ?
ORDER BY deleted_at, key
LIMIT ?;

-- name: walk_by_deleted_desc
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token, fenced, changes,
    deleted_at
FROM document INDEXED BY document_by_deleted
WHERE namespace = ? AND deleted_at IS NOT NULL AND deleted_at >= ? AND deleted_at < ?
ORDER BY deleted_at DESC, key DESC
LIMIT ?;
