-- The archives whose time is over: what they were, for those who look for them.
CREATE TABLE expired (
    claim TEXT NOT NULL REFERENCES attempts (claim),
    stage TEXT NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (claim, stage)
) STRICT;
