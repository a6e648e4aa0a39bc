-- How often a person asked that the build ends: the second time ends its `finally` too.
ALTER TABLE builds ADD COLUMN persons_asked INTEGER NOT NULL DEFAULT 0;

-- Whether its time limit was the first that ended it.
ALTER TABLE builds ADD COLUMN timed_out INTEGER NOT NULL DEFAULT 0 CHECK (timed_out IN (0, 1));

UPDATE builds SET persons_asked = cancel_asked IS NOT NULL, timed_out = coalesce(left_ms = 0, 0)
WHERE ended_ms IS NULL;
