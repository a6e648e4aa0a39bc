-- API tokens. Of a token only the SHA-256 is kept: 32 random bytes need no slower hash.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'developer', 'maintainer', 'admin')),
    -- Its first characters, which people tell it by.
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    made_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    used_ms INTEGER,
    revoked_ms INTEGER
) STRICT;

-- A name is free again once its token was revoked.
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked_ms IS NULL;

-- Browsers that signed in. A session lets do what its token does at that moment, and nothing once that is gone.
CREATE TABLE sessions (
    -- SHA-256 of what the cookie holds.
    hash TEXT PRIMARY KEY,
    -- SHA-256 of the token that was shown; it may be that of the state folder, which is in no table.
    token TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_end ON sessions (expires_ms);

-- Who did what, or was refused for the role. Rows are added and grow old; none is changed.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    role TEXT NOT NULL,
    said TEXT,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    address TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_age ON audit (at_ms);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit list is only added to');
END;

-- Secrets of the farm, each for a project or all, a branch or all, some events or all.
CREATE TABLE secrets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The repository's identity; empty for all projects.
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    -- A glob; empty for all branches.
    branch TEXT NOT NULL,
    -- Names of events, sorted, with commas between them; empty for all.
    events TEXT NOT NULL,
    -- Which key it is sealed with.
    key_id TEXT NOT NULL,
    -- Nonce, content and tag. The four columns of its scope are bound to it.
    sealed BLOB NOT NULL,
    set_by TEXT NOT NULL,
    set_ms INTEGER NOT NULL,
    UNIQUE (project, name, branch, events)
) STRICT;
