-- name: load
SELECT
    prefix, policy, reducers, at, actor
FROM state_policy
WHERE prefix IN (:keys) AND namespace = ?;

-- name: insert
INSERT INTO state_policy (
    namespace, prefix, policy, reducers, at, actor
) VALUES (
    ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE state_policy SET
    policy = ?, reducers = ?, at = ?, actor = ?
WHERE namespace = ? AND prefix = ?;

-- name: delete
DELETE FROM state_policy WHERE namespace = ? AND prefix = ?;

-- name: walk_key
SELECT
    prefix, policy, reducers, at, actor
FROM state_policy
WHERE namespace = ? AND prefix >= ? AND prefix < ?
ORDER BY prefix
LIMIT ?;

-- name: walk_key_desc
SELECT
    prefix, policy, reducers, at, actor
FROM state_policy
WHERE namespace = ? AND prefix >= ? AND prefix < ?
ORDER BY prefix DESC
LIMIT ?;
