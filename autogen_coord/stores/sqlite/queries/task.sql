-- name: load
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task
WHERE id IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO task (
    namespace, id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient,
    correlation, causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry,
    submitted_at, requeued_from
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE task SET
    seq = ?, kind = ?, capability = ?, target = ?, input = ?, input_blob = ?, input_hash = ?, key = ?, priority = ?,
    sender = ?, recipient = ?, correlation = ?, causation = ?, trace = ?, parent = ?, step_key = ?, lane = ?,
    sticky = ?, ready_at = ?, deadline = ?, expires_at = ?, timeout = ?, retry = ?, submitted_at = ?,
    requeued_from = ?
WHERE namespace = ? AND id = ?;

-- name: delete
DELETE FROM task WHERE namespace = ? AND id = ?;

-- name: walk_key
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_key_desc
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_by_key
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_key
WHERE namespace = ? AND capability = ? AND key = ? AND key IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_key_desc
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_key
WHERE namespace = ? AND capability = ? AND key = ? AND key IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;

-- name: walk_by_parent
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_parent
WHERE namespace = ? AND parent = ? AND parent IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_parent_desc
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_parent
WHERE namespace = ? AND parent = ? AND parent IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;

-- name: walk_by_step
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_step
WHERE namespace = ? AND parent = ? AND step_key = ? AND step_key IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_step_desc
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_step
WHERE namespace = ? AND parent = ? AND step_key = ? AND step_key IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;

-- name: walk_by_correlation
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_correlation
WHERE namespace = ? AND correlation = ? AND correlation IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_correlation_desc
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_correlation
WHERE namespace = ? AND correlation = ? AND correlation IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;

-- name: walk_by_origin
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_origin
WHERE namespace = ? AND requeued_from = ? AND requeued_from IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_origin_desc
SELECT
    id, seq, kind, capability, target, input, input_blob, input_hash, key, priority, sender, recipient, correlation,
    causation, trace, parent, step_key, lane, sticky, ready_at, deadline, expires_at, timeout, retry, submitted_at,
    requeued_from
FROM task INDEXED BY task_by_origin
WHERE namespace = ? AND requeued_from = ? AND requeued_from IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;
