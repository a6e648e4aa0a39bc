-- Restarts, schedules, and what is removed when it is old.

-- The build that this one is a restart of. It may be gone by now.
ALTER TABLE builds ADD COLUMN restart_of INTEGER;
CREATE INDEX builds_by_restart ON builds (restart_of) WHERE restart_of IS NOT NULL;

-- The job of another build that passed in the place of this one: what it left serves here. It may be gone by now.
ALTER TABLE jobs ADD COLUMN carried TEXT;
-- The build of that job.
ALTER TABLE jobs ADD COLUMN carried_from INTEGER;
CREATE INDEX jobs_carried ON jobs (carried_from) WHERE carried_from IS NOT NULL;

-- Whether artifacts of the attempt were removed.
ALTER TABLE attempts ADD COLUMN faded INTEGER NOT NULL DEFAULT 0 CHECK (faded IN (0, 1));

-- What the names of images meant in a build; the empty text for one that meant two things.
CREATE TABLE images (
    build INTEGER NOT NULL REFERENCES builds (number) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (build, name)
) STRICT, WITHOUT ROWID;

-- When builds begin by themselves, as the newest plan of the repository's default branch says.
CREATE TABLE schedules (
    repo TEXT NOT NULL,
    -- Of which pipeline; the empty text for the one without a name.
    pipeline TEXT NOT NULL,
    name TEXT NOT NULL,
    said TEXT NOT NULL, -- json Schedule
    -- The branch that is built where the schedule names none.
    default_branch TEXT NOT NULL,
    -- The build whose plan says so.
    build INTEGER NOT NULL,
    -- When it comes due next; none when it never does.
    next_ms INTEGER,
    -- Who paused it, as that one said.
    paused_by TEXT,
    -- When it came due last, and the build that began then.
    last_due_ms INTEGER,
    last_build INTEGER,
    PRIMARY KEY (repo, pipeline, name)
) STRICT;

CREATE INDEX schedules_by_time ON schedules (next_ms) WHERE next_ms IS NOT NULL;

-- Whether the build is of what its branch had when it was asked for, and not of a commit that somebody named.
ALTER TABLE builds ADD COLUMN of_tip INTEGER NOT NULL DEFAULT 0 CHECK (of_tip IN (0, 1));

-- Whether a person wants the build kept, however old it becomes.
ALTER TABLE builds ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));
-- What of an old build was removed before the build itself.
ALTER TABLE builds ADD COLUMN logs_removed_ms INTEGER;
ALTER TABLE builds ADD COLUMN artifacts_removed_ms INTEGER;

-- For what is old.
CREATE INDEX builds_by_end ON builds (ended_ms) WHERE ended_ms IS NOT NULL;
-- So that what is removed is found by whatever names it.
CREATE INDEX builds_by_parent ON builds (parent) WHERE parent IS NOT NULL;
CREATE INDEX jobs_by_child ON jobs (child) WHERE child IS NOT NULL;
