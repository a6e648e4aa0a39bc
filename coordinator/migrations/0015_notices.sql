-- Branches that broke or were fixed, for whoever wants to hear of that: an outbox.

CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- By which its receiver knows it again.
    message TEXT NOT NULL,
    build INTEGER NOT NULL,
    -- The build of the branch before it, which ended otherwise.
    before INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('broken', 'fixed')),
    at_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    not_before_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
