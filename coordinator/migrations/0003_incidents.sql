-- What is not as it should be on the line: messages that are none, voices that are not whose they say. Equal ones are
-- one row with a count, and of each kind the newest are kept.
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    -- The agent, the broker's user or the queue that it is about.
    about TEXT NOT NULL,
    sentence TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    UNIQUE (kind, about, sentence)
) STRICT;

-- The agent's own number of a finding, and what was found: the same one again is laid aside once.
ALTER TABLE dead_letters ADD COLUMN finding TEXT;
ALTER TABLE dead_letters ADD COLUMN digest TEXT;

CREATE UNIQUE INDEX dead_letters_by_finding ON dead_letters (finding) WHERE finding IS NOT NULL;
CREATE INDEX dead_letters_by_digest ON dead_letters (digest, at_ms) WHERE digest IS NOT NULL;
