-- What a person said about an agent, and what is needed to say why something waits or was lost.

-- Why a person wants it to take no jobs; none while it should.
ALTER TABLE agents ADD COLUMN pause TEXT; -- json Paused
-- Why a person revoked it; none while it belongs to the farm, or may.
ALTER TABLE agents ADD COLUMN revoked TEXT;
-- Whether a person chose which of its labels count: then what it says later changes nothing of them.
ALTER TABLE agents ADD COLUMN labels_chosen INTEGER NOT NULL DEFAULT 0 CHECK (labels_chosen IN (0, 1));
-- Its last sign of life, to within a minute.
ALTER TABLE agents ADD COLUMN seen_ms INTEGER;

-- Keys that a person revoked. They outlive their agent's row, so that neither a join token nor open enrolment lets
-- one back in; only an approval of that very key does.
CREATE TABLE revoked_keys (
    public_key TEXT PRIMARY KEY, -- json PublicKey
    agent TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

-- Who asked for a build, as that one said.
ALTER TABLE builds ADD COLUMN asked_by TEXT;
-- How an attempt was lost, when it was.
ALTER TABLE attempts ADD COLUMN loss TEXT; -- json Loss

-- For how long the builds of a repository took.
CREATE INDEX builds_by_repo ON builds (repo, number);
