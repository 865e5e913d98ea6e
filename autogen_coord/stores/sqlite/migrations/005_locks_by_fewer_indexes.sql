-- A lock that is taken and given back writes to every index it stands in. Exclusive ones, which most are, are found by their path;
-- those of a session stand in the order in which they were granted, side by side.

DROP INDEX lock_held_by_mode;

CREATE INDEX lock_held_by_mode ON lock_held (namespace, mode, path, id)
    WHERE mode <> 'X';

DROP INDEX lock_held_by_session;

CREATE INDEX lock_held_by_session ON lock_held (namespace, session, token, path, id);
