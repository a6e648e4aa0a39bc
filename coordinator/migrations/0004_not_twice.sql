-- Whether a stage that must not run twice has begun in an attempt. Set before its agent is told that it may begin.
ALTER TABLE attempts ADD COLUMN not_twice INTEGER NOT NULL DEFAULT 0 CHECK (not_twice IN (0, 1));
