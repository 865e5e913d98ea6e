-- name: load
SELECT
    name, value
FROM counter
WHERE name IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO counter (
    namespace, name, value
) VALUES (
    ?, ?, ?
);

-- name: update
UPDATE counter SET
    value = ?
WHERE namespace = ? AND name = ?;

-- name: delete
DELETE FROM counter WHERE namespace = ? AND name = ?;

-- name: walk_key
SELECT
    name, value
FROM counter
WHERE namespace = ? AND name >= ? AND name < ?
ORDER BY name
LIMIT ?;

-- name: walk_key_desc
SELECT
    name, value
FROM counter
WHERE namespace = ? AND name >= ? AND name < ?
ORDER BY name DESC
LIMIT ?;
