-- name: load
SELECT
    number, at, kind, subject, session, data
FROM event
WHERE number IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO event (
    namespace, number, at, kind, subject, session, data
) VALUES (
    ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE event SET
    at = ?, kind = ?, subject = ?, session = ?, data = ?
WHERE namespace = ? AND number = ?;

-- name: delete
DELETE FROM event WHERE namespace = ? AND number = ?;

-- name: walk_key
SELECT
    number, at, kind, subject, session, data
FROM event
WHERE namespace = ? AND number >= ? AND number < ?
ORDER BY number
LIMIT ?;

-- name: walk_key_desc
SELECT
    number, at, kind, subject, session, data
FROM event
WHERE namespace = ? AND number >= ? AND number < ?
ORDER BY number DESC
LIMIT ?;
