-- Places in concurrency groups that jobs of a build hold together: all of them, or those of one pipeline.

CREATE TABLE turns (
    build INTEGER NOT NULL REFERENCES builds (number),
    -- Whose jobs; '*' for all of the build.
    pipeline TEXT NOT NULL,
    grp TEXT NOT NULL,
    terms TEXT NOT NULL, -- json Concurrency
    -- Whether it has its turn.
    turn INTEGER NOT NULL DEFAULT 0 CHECK (turn IN (0, 1)),
    -- Its place among those that wait for the same group.
    ready INTEGER NOT NULL,
    PRIMARY KEY (build, pipeline)
) STRICT;

CREATE INDEX turns_in_groups ON turns (grp, build);

INSERT INTO turns (build, pipeline, grp, terms, turn, ready)
SELECT number, '*', grp, plan -> '$.concurrency', turn, coalesce(ready, number)
FROM builds WHERE grp IS NOT NULL AND plan -> '$.concurrency' IS NOT NULL AND ended_ms IS NULL;

DROP INDEX builds_in_groups;
ALTER TABLE builds DROP COLUMN grp;
ALTER TABLE builds DROP COLUMN turn;
ALTER TABLE builds DROP COLUMN ready;

-- The pipeline of a planned job, out of its plan; the empty text for the one without a name.
ALTER TABLE jobs ADD COLUMN pipeline TEXT NOT NULL DEFAULT '';
UPDATE jobs SET pipeline = coalesce(plan ->> '$.pipeline', '') WHERE state <> 'ended' AND plan IS NOT NULL;
