-- Times are milliseconds since 1970 by the coordinator's clock. Names, states and causes are written as they
-- stand on the wire. `json` in a comment means: the JSON of the type of that name in the crate `protocol`.

CREATE TABLE builds (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Credentials included, which is why this file is its owner's alone (0600).
    repo TEXT NOT NULL,
    branch TEXT,
    commit_id TEXT,
    subject TEXT,
    author TEXT,
    trigger TEXT NOT NULL,
    trusted INTEGER NOT NULL CHECK (trusted IN (0, 1)),
    -- Folded from its jobs in the transaction that changes one of them.
    status TEXT NOT NULL,
    ending TEXT, -- json Ending
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms INTEGER,
    reply_queue TEXT,
    reply_correlation TEXT,
    told_running INTEGER NOT NULL DEFAULT 0 CHECK (told_running IN (0, 1))
) STRICT;

CREATE INDEX builds_by_status ON builds (status, number);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    build INTEGER NOT NULL REFERENCES builds (number),
    key TEXT NOT NULL,
    needs TEXT NOT NULL, -- json array of JobKey
    labels TEXT NOT NULL, -- json LabelSet
    plan TEXT, -- json Plan; none for a job that is yet to be planned
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'ended')),
    -- How many needs have not passed yet: only a job with 0 is offered and granted.
    unmet INTEGER NOT NULL DEFAULT 0,
    -- Of a queued job: attempts that were lost; of a running one: the number of the present attempt.
    attempts INTEGER NOT NULL DEFAULT 0,
    claim TEXT,
    agent TEXT,
    cancelling TEXT,
    ending TEXT, -- json Ending
    created_ms INTEGER NOT NULL,
    -- When the broker confirmed it last; none while it is not on offer.
    offered_ms INTEGER,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (build, key),
    CHECK ((state = 'running') = (claim IS NOT NULL)),
    CHECK ((state = 'ended') = (ending IS NOT NULL))
) STRICT;

CREATE INDEX jobs_open ON jobs (state) WHERE state <> 'ended';

CREATE TABLE attempts (
    claim TEXT PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs (id),
    attempt INTEGER NOT NULL,
    agent TEXT NOT NULL,
    boot TEXT NOT NULL,
    sealing TEXT NOT NULL, -- json SealingKey
    -- running, lost, abandoned, or an outcome's name
    state TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    last_seq INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX attempts_by_job ON attempts (job);

-- Claims that were refused or given up unseen: the same claim again gets the same answer.
CREATE TABLE denials (
    claim TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX denials_by_age ON denials (at_ms);

CREATE TABLE stages (
    claim TEXT NOT NULL REFERENCES attempts (claim),
    name TEXT NOT NULL,
    image TEXT NOT NULL,
    result TEXT, -- json StageOutcome
    duration_ms INTEGER,
    PRIMARY KEY (claim, name)
) STRICT;

CREATE TABLE logs (
    claim TEXT NOT NULL REFERENCES attempts (claim),
    name TEXT NOT NULL,
    -- How many bytes from the beginning are safe in the file.
    bytes INTEGER NOT NULL DEFAULT 0,
    -- Its whole length, once its agent has said so.
    total INTEGER,
    -- Whether nobody waits for the rest any more.
    given_up INTEGER NOT NULL DEFAULT 0 CHECK (given_up IN (0, 1)),
    PRIMARY KEY (claim, name)
) STRICT;

CREATE INDEX logs_open ON logs (claim) WHERE given_up = 0 AND (total IS NULL OR bytes < total);

CREATE TABLE adoptions (
    job TEXT PRIMARY KEY REFERENCES jobs (id),
    queue TEXT NOT NULL,
    digest TEXT NOT NULL,
    message_id TEXT,
    -- The claim, and the life of the agent, in whose hands the message was last.
    claim TEXT NOT NULL,
    agent TEXT NOT NULL,
    boot TEXT NOT NULL,
    -- What became of the message: unknown, acknowledged, again (the broker delivers it once more)
    settled TEXT NOT NULL DEFAULT 'unknown' CHECK (settled IN ('unknown', 'acknowledged', 'again')),
    UNIQUE (message_id, digest)
) STRICT;

CREATE INDEX adoptions_by_bytes ON adoptions (digest, queue);

CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    -- json PublicKey: the enrolled one, or the first that asked.
    public_key TEXT NOT NULL,
    -- json PublicKey: another one that was refused since, to be approved by a person.
    refused_key TEXT,
    enrolled INTEGER NOT NULL CHECK (enrolled IN (0, 1)),
    broker_user TEXT,
    offered_labels TEXT NOT NULL, -- json LabelSet
    approved_labels TEXT NOT NULL, -- json LabelSet
    slots INTEGER NOT NULL,
    version TEXT NOT NULL,
    host TEXT NOT NULL,
    boot TEXT NOT NULL
) STRICT;

-- Outbox of status messages to those who published a job by hand.
CREATE TABLE replies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    correlation TEXT,
    status TEXT NOT NULL -- json StatusMessage
) STRICT;

-- Messages laid aside: a record for people, and an outbox while not buried.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    buried INTEGER NOT NULL DEFAULT 0 CHECK (buried IN (0, 1))
) STRICT;

CREATE INDEX dead_letters_open ON dead_letters (id) WHERE buried = 0;
