-- What a plan says about when its jobs may begin, what people said to that, and what builds know of each other.

-- jobs.unmet is, from here on: above 0 while something stands before the job; 0 when its turn has come and agents may
-- have it; -1 when its turn has come and this coordinator carries it out.

-- When it may begin beyond the jobs that it needs; none before it is planned.
ALTER TABLE jobs ADD COLUMN terms TEXT; -- json Terms
-- The concurrency group in which it has a place, out of its terms.
ALTER TABLE jobs ADD COLUMN grp TEXT;
-- Its place among those that wait for the same group, since only the group stood before it.
ALTER TABLE jobs ADD COLUMN ready INTEGER;
-- What a person said at its gate.
ALTER TABLE jobs ADD COLUMN answer TEXT; -- json Answer
-- The build that was begun in its place.
ALTER TABLE jobs ADD COLUMN child INTEGER REFERENCES builds (number);
-- Why it was passed over; its ending is then that of a job that passed.
ALTER TABLE jobs ADD COLUMN skipped TEXT;
-- The job because of whose failure it was told to end, or passed over.
ALTER TABLE jobs ADD COLUMN ended_for TEXT;
-- How long it may still wait at its gate, or run, in milliseconds: counted down while this coordinator lives.
ALTER TABLE jobs ADD COLUMN left_ms INTEGER;

CREATE INDEX jobs_in_groups ON jobs (grp, build) WHERE grp IS NOT NULL AND state <> 'ended';

-- What began it beyond its kind, with the values that it was given.
ALTER TABLE builds ADD COLUMN origin TEXT; -- json Origin
ALTER TABLE builds ADD COLUMN inputs TEXT; -- json array of Variable
-- Whether it was asked for without a branch: of what the remote's HEAD names.
ALTER TABLE builds ADD COLUMN of_head INTEGER NOT NULL DEFAULT 0 CHECK (of_head IN (0, 1));
-- What holds for all of it, once it is planned.
ALTER TABLE builds ADD COLUMN plan TEXT; -- json BuildPlan
-- The pipelines that it is made of, once it is planned.
ALTER TABLE builds ADD COLUMN pipelines TEXT; -- json array of text
ALTER TABLE builds ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
-- The concurrency group in which it has a place as a whole, and whether it has its turn there.
ALTER TABLE builds ADD COLUMN grp TEXT;
ALTER TABLE builds ADD COLUMN turn INTEGER NOT NULL DEFAULT 1 CHECK (turn IN (0, 1));
ALTER TABLE builds ADD COLUMN ready INTEGER;
-- The job in whose place it was begun.
ALTER TABLE builds ADD COLUMN parent TEXT REFERENCES jobs (id);
-- Why it was asked to end: a second time its finally ends too.
ALTER TABLE builds ADD COLUMN cancel_asked TEXT;
-- How long it may still take, in milliseconds, as jobs.left_ms.
ALTER TABLE builds ADD COLUMN left_ms INTEGER;

CREATE INDEX builds_in_groups ON builds (repo, grp) WHERE grp IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX builds_open ON builds (repo, number) WHERE ended_ms IS NULL;

-- What an attempt handed on by $BUILDR_ENV, in order.
ALTER TABLE attempts ADD COLUMN handed TEXT; -- json array of Variable

-- What the name of its image meant, what of it was read for people, and its tries that were followed by another.
ALTER TABLE stages ADD COLUMN digest TEXT;
ALTER TABLE stages ADD COLUMN tests TEXT; -- json Tests
ALTER TABLE stages ADD COLUMN coverage INTEGER;
ALTER TABLE stages ADD COLUMN summary TEXT;
ALTER TABLE stages ADD COLUMN tries TEXT; -- json array of TryView

-- The archives that stages left for those that need their job. Their bytes lie elsewhere, by their hash.
CREATE TABLE kept (
    claim TEXT NOT NULL REFERENCES attempts (claim),
    stage TEXT NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    -- For how long the farm keeps it, and since when.
    expire_ms INTEGER,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (claim, stage)
) STRICT;

CREATE INDEX kept_by_hash ON kept (sha256);
