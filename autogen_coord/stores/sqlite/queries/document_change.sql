-- name: load
WITH wanted (key, version) AS (VALUES :keys)
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM wanted CROSS JOIN document_change USING (key, version)
WHERE namespace = ?;

-- name: insert
INSERT INTO document_change (
    namespace, key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE document_change SET
    value = ?, value_blob = ?, kind = ?, base = ?, number = ?, at = ?, created_at = ?, actor = ?, cause = ?, token = ?
WHERE namespace = ? AND key = ? AND version = ?;

-- name: delete
DELETE FROM document_change WHERE namespace = ? AND key = ? AND version = ?;

-- name: walk_key
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM document_change
WHERE namespace = ? AND key >= ? AND key < ?
ORDER BY key, version
LIMIT ?;

-- name: walk_key_desc
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM document_change
WHERE namespace = ? AND key >= ? AND key < ?
ORDER BY key DESC, version DESC
LIMIT ?;

-- name: walk_by_document
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM document_change
WHERE namespace = ? AND key = ? AND version >= ? AND version < ?
ORDER BY version, key
LIMIT ?;

-- name: walk_by_document_desc
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM document_change
WHERE namespace = ? AND key = ? AND version >= ? AND version < ?
ORDER BY version DESC, key DESC
LIMIT ?;

-- name: walk_by_number
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM document_change
WHERE namespace = ? AND key = ? AND number >= ? AND number < ?
ORDER BY number, key, version
LIMIT ?;

-- name: walk_by_number_desc
SELECT
    key, version, value, value_blob, kind, base, number, at, created_at, actor, cause, token
FROM document_change
WHERE namespace = ? AND key = ? AND number >= ? AND number < ?
ORDER BY number DESC, key DESC, version DESC
LIMIT ?;
