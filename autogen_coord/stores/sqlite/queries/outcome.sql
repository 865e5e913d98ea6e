-- name: load
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome
WHERE id IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO outcome (
    namespace, id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider,
    started_at, finished_at
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE outcome SET
    state = ?, capability = ?, output = ?, output_blob = ?, error = ?, attempt = ?, failures = ?, crashes = ?,
    session = ?, provider = ?, started_at = ?, finished_at = ?
WHERE namespace = ? AND id = ?;

-- name: delete
DELETE FROM outcome WHERE namespace = ? AND id = ?;

-- name: walk_key
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_key_desc
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_by_finish
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome INDEXED BY outcome_by_finish
WHERE namespace = ? AND finished_at >= ? AND finished_at < ?
ORDER BY finished_at, id
LIMIT ?;

-- name: walk_by_finish_desc
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome INDEXED BY outcome_by_finish
WHERE namespace = ? AND finished_at >= ? AND finished_at < ?
ORDER BY finished_at DESC, id DESC
LIMIT ?;

-- name: walk_by_state
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome INDEXED BY outcome_by_state
WHERE namespace = ? AND state = ? AND finished_at >= ? AND finished_at < ?
ORDER BY finished_at, id
LIMIT ?;

-- name: walk_by_state_desc
SELECT
    id, state, capability, output, output_blob, error, attempt, failures, crashes, session, provider, started_at,
    finished_at
FROM outcome INDEXED BY outcome_by_state
WHERE namespace = ? AND state = ? AND finished_at >= ? AND finished_at < ?
ORDER BY finished_at DESC, id DESC
LIMIT ?;
