-- name: load
SELECT
    hash, body, refs
FROM blob
WHERE hash IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO blob (
    namespace, hash, body, refs
) VALUES (
    ?, ?, ?, ?
);

-- name: update
UPDATE blob SET
    body = ?, refs = ?
WHERE namespace = ? AND hash = ?;

-- name: delete
DELETE FROM blob WHERE namespace = ? AND hash = ?;

-- name: walk_key
SELECT
    hash, body, refs
FROM blob
WHERE namespace = ? AND hash >= ? AND hash < ?
ORDER BY hash
LIMIT ?;

-- name: walk_key_desc
SELECT
    hash, body, refs
FROM blob
WHERE namespace = ? AND hash >= ? AND hash < ?
ORDER BY hash DESC
LIMIT ?;
