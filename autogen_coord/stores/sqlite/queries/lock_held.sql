-- name: load
WITH wanted (path, id) AS (VALUES :keys)
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM wanted CROSS JOIN lock_held USING (path, id)
WHERE namespace = ?;

-- name: filled
WITH wanted (low, high) AS (VALUES :ranges)
SELECT low, high
FROM wanted
WHERE EXISTS (SELECT 1 FROM lock_held WHERE namespace = ? AND path >= low AND path < high);

-- name: insert
INSERT INTO lock_held (
    namespace, path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE lock_held SET
    mode = ?, owner = ?, token = ?, session = ?, task = ?, attempt = ?, priority = ?, since = ?, born = ?, conversion = ?
WHERE namespace = ? AND path = ? AND id = ?;

-- name: delete
DELETE FROM lock_held WHERE namespace = ? AND path = ? AND id = ?;

-- name: walk_key
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held
WHERE namespace = ? AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_key_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held
WHERE namespace = ? AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;

-- name: walk_by_mode
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_mode
WHERE namespace = ? AND mode = ? AND mode <> 'X' AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_by_mode_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_mode
WHERE namespace = ? AND mode = ? AND mode <> 'X' AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;

-- name: walk_exclusive
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held
WHERE namespace = ? AND mode = 'X' AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_exclusive_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held
WHERE namespace = ? AND mode = 'X' AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;

-- name: walk_by_cover
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held
WHERE namespace = ? AND path = ? AND mode IN ('S', 'SIX', 'X') AND id >= ? AND id < ?
ORDER BY id, path
LIMIT ?;

-- name: walk_by_cover_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held
WHERE namespace = ? AND path = ? AND mode IN ('S', 'SIX', 'X') AND id >= ? AND id < ?
ORDER BY id DESC, path DESC
LIMIT ?;

-- name: walk_by_session
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_session
WHERE namespace = ? AND session = ? AND token >= ? AND token < ?
ORDER BY token, path, id
LIMIT ?;

-- name: walk_by_session_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_session
WHERE namespace = ? AND session = ? AND token >= ? AND token < ?
ORDER BY token DESC, path DESC, id DESC
LIMIT ?;

-- name: walk_by_owner
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_owner
WHERE namespace = ? AND owner = ? AND owner IS NOT NULL AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_by_owner_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_owner
WHERE namespace = ? AND owner = ? AND owner IS NOT NULL AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;

-- name: walk_by_task
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_task
WHERE namespace = ? AND task = ? AND task IS NOT NULL AND path >= ? AND path < ?
ORDER BY path, id
LIMIT ?;

-- name: walk_by_task_desc
SELECT
    path, id, mode, owner, token, session, task, attempt, priority, since, born, conversion
FROM lock_held INDEXED BY lock_held_by_task
WHERE namespace = ? AND task = ? AND task IS NOT NULL AND path >= ? AND path < ?
ORDER BY path DESC, id DESC
LIMIT ?;
