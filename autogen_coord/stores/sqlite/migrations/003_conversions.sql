-- A conversion has an id of its own: which lease it would convert, and which conversion a lease was last granted.

ALTER TABLE lock_held ADD COLUMN conversion TEXT;

ALTER TABLE lock_wait ADD COLUMN converts TEXT;
