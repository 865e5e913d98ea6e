-- name: load
WITH wanted (name, version) AS (VALUES :keys)
SELECT
    name, version, description, input_schema, output_schema, words, announced_at
FROM wanted CROSS JOIN capability USING (name, version)
WHERE namespace = ?;

-- name: insert
INSERT INTO capability (
    namespace, name, version, description, input_schema, output_schema, words, announced_at
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: update
UPDATE capability SET
    description = ?, input_schema = ?, output_schema = ?, words = ?, announced_at = ?
WHERE namespace = ? AND name = ? AND version = ?;

-- name: delete
DELETE FROM capability WHERE namespace = ? AND name = ? AND version = ?;

-- name: walk_key
SELECT
    name, version, description, input_schema, output_schema, words, announced_at
FROM capability
WHERE namespace = ? AND name >= ? AND name < ?
ORDER BY name, version
LIMIT ?;

-- name: walk_key_desc
SELECT
    name, version, description, input_schema, output_schema, words, announced_at
FROM capability
WHERE namespace = ? AND name >= ? AND name < ?
ORDER BY name DESC, version DESC
LIMIT ?;
