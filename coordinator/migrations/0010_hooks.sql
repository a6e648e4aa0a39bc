-- Repositories whose forges tell what happens in them, and what these told.

CREATE TABLE projects (
    -- Of the clone URL: host and path.
    identity TEXT PRIMARY KEY,
    -- Credentials included, as in builds.repo.
    url TEXT NOT NULL,
    -- The last part of its webhooks' address. It opens nothing.
    key TEXT NOT NULL UNIQUE,
    forge TEXT NOT NULL,
    -- What its webhooks are signed with: as it is, for it must be computed with.
    secret TEXT NOT NULL,
    default_branch TEXT,
    trusted INTEGER NOT NULL CHECK (trusted IN (0, 1)),
    approval TEXT NOT NULL CHECK (approval IN ('none', 'forks', 'pull_requests', 'all')),
    allowed INTEGER NOT NULL DEFAULT 1 CHECK (allowed IN (0, 1)),
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL REFERENCES projects (identity) ON DELETE CASCADE,
    forge TEXT NOT NULL,
    event TEXT NOT NULL,
    headers TEXT NOT NULL, -- json object, without what proves who sent it
    -- Empty once it is too long to be kept.
    body BLOB NOT NULL,
    forge_id TEXT,
    received_ms INTEGER NOT NULL,
    -- What came of it; none until it is handled.
    verdict TEXT,
    builds TEXT, -- json array of BuildNumber
    replays INTEGER NOT NULL DEFAULT 0,
    redelivers INTEGER
) STRICT;

CREATE INDEX deliveries_open ON deliveries (number) WHERE verdict IS NULL;
CREATE INDEX deliveries_by_project ON deliveries (project, number);

-- By what a delivery is known again: the forge's name for it, or its bytes.
CREATE TABLE delivered (
    project TEXT NOT NULL REFERENCES projects (identity) ON DELETE CASCADE,
    mark TEXT NOT NULL,
    delivery INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (project, mark)
) STRICT;

CREATE INDEX delivered_by_age ON delivered (at_ms);

-- Builds of pull requests that are not over.
CREATE INDEX builds_of_requests ON builds (origin ->> '$.pull_request') WHERE ended_ms IS NULL;
