-- name: load
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue
WHERE id IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO queue (
    namespace, id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes,
    suspect, session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for,
    children, avoid, progress
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE queue SET
    seq = ?, capability = ?, state = ?, pool = ?, rank = ?, lane = ?, place = ?, priority = ?, ready_at = ?,
    attempt = ?, failures = ?, crashes = ?, suspect = ?, session = ?, provider = ?, started_at = ?, deadline = ?,
    expires_at = ?, timeout = ?, cancel_at = ?, due = ?, parent = ?, waits_for = ?, children = ?, avoid = ?,
    progress = ?
WHERE namespace = ? AND id = ?;

-- name: delete
DELETE FROM queue WHERE namespace = ? AND id = ?;

-- name: walk_key
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id
LIMIT ?;

-- name: walk_key_desc
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue
WHERE namespace = ? AND id >= ? AND id < ?
ORDER BY id DESC
LIMIT ?;

-- name: walk_ready
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_ready
WHERE namespace = ? AND pool = ? AND state = 'ready' AND rank >= ? AND rank < ?
ORDER BY rank, seq, id
LIMIT ?;

-- name: walk_ready_desc
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_ready
WHERE namespace = ? AND pool = ? AND state = 'ready' AND rank >= ? AND rank < ?
ORDER BY rank DESC, seq DESC, id DESC
LIMIT ?;

-- name: walk_by_lane
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_lane
WHERE namespace = ? AND lane = ? AND place = ? AND lane IS NOT NULL AND rank >= ? AND rank < ?
ORDER BY rank, seq, id
LIMIT ?;

-- name: walk_by_lane_desc
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_lane
WHERE namespace = ? AND lane = ? AND place = ? AND lane IS NOT NULL AND rank >= ? AND rank < ?
ORDER BY rank DESC, seq DESC, id DESC
LIMIT ?;

-- name: walk_by_session
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_session
WHERE namespace = ? AND session = ? AND session IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_session_desc
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_session
WHERE namespace = ? AND session = ? AND session IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;

-- name: walk_by_due
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_due
WHERE namespace = ? AND due IS NOT NULL AND due >= ? AND due < ?
ORDER BY due, id
LIMIT ?;

-- name: walk_by_due_desc
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_due
WHERE namespace = ? AND due IS NOT NULL AND due >= ? AND due < ?
ORDER BY due DESC, id DESC
LIMIT ?;

-- name: walk_by_parent
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_parent
WHERE namespace = ? AND parent = ? AND parent IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq, id
LIMIT ?;

-- name: walk_by_parent_desc
SELECT
    id, seq, capability, state, pool, rank, lane, place, priority, ready_at, attempt, failures, crashes, suspect,
    session, provider, started_at, deadline, expires_at, timeout, cancel_at, due, parent, waits_for, children, avoid,
    progress
FROM queue INDEXED BY queue_by_parent
WHERE namespace = ? AND parent = ? AND parent IS NOT NULL AND seq >= ? AND seq < ?
ORDER BY seq DESC, id DESC
LIMIT ?;
