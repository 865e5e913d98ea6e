-- name: load
WITH wanted (task, number) AS (VALUES :keys)
SELECT
    task, number, provider, session, started_at, ended_at, "end", error
FROM wanted CROSS JOIN attempt USING (task, number)
WHERE namespace = ?;

-- name: insert
INSERT INTO attempt (
    namespace, task, number, provider, session, started_at, ended_at, "end", error
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE attempt SET
    provider = ?, session = ?, started_at = ?, ended_at = ?, "end" = ?, error = ?
WHERE namespace = ? AND task = ? AND number = ?;

-- name: delete
DELETE FROM attempt WHERE namespace = ? AND task = ? AND number = ?;

-- name: walk_key
SELECT
    task, number, provider, session, started_at, ended_at, "end", error
FROM attempt
WHERE namespace = ? AND task >= ? AND task < ?
ORDER BY task, number
LIMIT ?;

-- name: walk_key_desc
SELECT
    task, number, provider, session, started_at, ended_at, "end", error
FROM attempt
WHERE namespace = ? AND task >= ? AND task < ?
ORDER BY task DESC, number DESC
LIMIT ?;

-- name: walk_by_task
SELECT
    task, number, provider, session, started_at, ended_at, "end", error
FROM attempt
WHERE namespace = ? AND task = ? AND number >= ? AND number < ?
ORDER BY number, task
LIMIT ?;

-- name: walk_by_task_desc
SELECT
    task, number, provider, session, started_at, ended_at, "end", error
FROM attempt
WHERE namespace = ? AND task = ? AND number >= ? AND number < ?
ORDER BY number DESC, task DESC
LIMIT ?;
