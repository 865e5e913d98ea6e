-- name: load
WITH wanted (path, id) AS (VALUES :keys)
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM wanted CROSS JOIN lock_wait USING (path, id)
WHERE namespace = ?;

-- name: insert
INSERT INTO lock_wait (
    namespace, path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE lock_wait SET
    mode = ?, wants = ?, owner = ?, session = ?, task = ?, attempt = ?, priority = ?, rank = ?, arrived = ?, since =
    ?, born = ?, within = ?, converts = ?
WHERE namespace = ? AND path = ? AND id = ?;

-- name: delete
DELETE FROM lock_wait WHERE namespace = ? AND path = ? AND id = ?;

-- name: walk_key
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait
WHERE namespace = ? AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_key_desc
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait
WHERE namespace = ? AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;

-- name: walk_by_place
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait INDEXED BY lock_wait_by_place
WHERE namespace = ? AND path = ? AND rank >= ? AND rank < ?
ORDER BY rank, arrived, path, id
LIMIT ?;

-- name: walk_by_place_desc
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait INDEXED BY lock_wait_by_place
WHERE namespace = ? AND path = ? AND rank >= ? AND rank < ?
ORDER BY rank DESC, arrived DESC, path DESC, id DESC
LIMIT ?;

-- name: walk_by_session
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait INDEXED BY lock_wait_by_session
WHERE namespace = ? AND session = ? AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_by_session_desc
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait INDEXED BY lock_wait_by_session
WHERE namespace = ? AND session = ? AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;

-- name: walk_by_task
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait INDEXED BY lock_wait_by_task
WHERE namespace = ? AND task = ? AND task IS NOT NULL AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_by_task_desc
SELECT
    path, id, mode, wants, owner, session, task, attempt, priority, rank, arrived, since, born, within, converts
FROM lock_wait INDEXED BY lock_wait_by_task
WHERE namespace = ? AND task = ? AND task IS NOT NULL AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;
