-- name: load
SELECT
    name, number, at, prefix, actor, note
FROM snapshot
WHERE name IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO snapshot (
    namespace, name, number, at, prefix, actor, note
) VALUES (
    ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE snapshot SET
    number = ?, at = ?, prefix = ?, actor = ?, note = ?
WHERE namespace = ? AND name = ?;

-- name: delete
DELETE FROM snapshot WHERE namespace = ? AND name = ?;

-- name: walk_key
SELECT
    name, number, at, prefix, actor, note
FROM snapshot
WHERE namespace = ? AND name >= ? AND name < ?
ORDER BY name
LIMIT ?;

-- name: walk_key_desc
SELECT
    name, number, at, prefix, actor, note
FROM snapshot
WHERE namespace = ? AND name >= ? AND name < ?
ORDER BY name DESC
LIMIT ?;

-- name: walk_by_prefix
SELECT
    name, number, at, prefix, actor, note
FROM snapshot
WHERE namespace = ? AND prefix = ? AND number >= ? AND number < ?
ORDER BY number, name
LIMIT ?;

-- name: walk_by_prefix_desc
SELECT
    name, number, at, prefix, actor, note
FROM snapshot
WHERE namespace = ? AND prefix = ? AND number >= ? AND number < ?
ORDER BY number DESC, name DESC
LIMIT ?;
