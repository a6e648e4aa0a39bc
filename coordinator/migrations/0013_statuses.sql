-- What forges are told of builds: the state of each pipeline of a commit.

-- Where it is told, by repository.
CREATE TABLE reporting (
    -- Of the clone URL: host and path.
    identity TEXT PRIMARY KEY,
    forge TEXT NOT NULL,
    -- Where its API is.
    api TEXT NOT NULL,
    -- What opens it: as it is, for it must be shown there.
    token TEXT NOT NULL,
    -- What went wrong last; none when it went well.
    trouble TEXT,
    trouble_ms INTEGER
) STRICT;

-- One row for each context of a commit: what it should say, and what the forge was told. An outbox where these differ.
CREATE TABLE statuses (
    identity TEXT NOT NULL REFERENCES reporting (identity) ON DELETE CASCADE,
    commit_id TEXT NOT NULL,
    context TEXT NOT NULL,
    -- The newest build that says it.
    build INTEGER NOT NULL,
    wanted TEXT NOT NULL, -- json Said
    -- Counted up with each change of what is wanted, so that a change while it is told is seen.
    version INTEGER NOT NULL DEFAULT 1,
    told INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (identity, commit_id, context)
) STRICT;

CREATE INDEX statuses_open ON statuses (not_before_ms) WHERE told < version;
CREATE INDEX statuses_by_build ON statuses (build);
