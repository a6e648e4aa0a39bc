-- So that nothing takes longer the more builds there are or wait: what is looked for is found by an index.

-- Of its build, so that whose turn comes is decided without it. Only of jobs that are not over.
ALTER TABLE jobs ADD COLUMN repo TEXT;
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;

UPDATE jobs SET repo = (SELECT repo FROM builds WHERE number = jobs.build),
                priority = (SELECT priority FROM builds WHERE number = jobs.build)
WHERE state <> 'ended';

-- Those that could be put on their queue, in the order of their turns.
CREATE INDEX jobs_in_turn ON jobs (labels, repo, priority DESC, id)
WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL;
-- Those that lie there.
CREATE INDEX jobs_on_offer ON jobs (labels, offered_ms) WHERE state = 'queued' AND offered_ms IS NOT NULL;
-- What a repository has of the farm at the moment.
CREATE INDEX jobs_at_work ON jobs (repo) WHERE state <> 'ended' AND unmet = 0 AND (state = 'running' OR offered_ms IS NOT NULL);
-- Those in whose place another build is to be begun.
CREATE INDEX jobs_to_send_on ON jobs (id) WHERE state <> 'ended' AND unmet < 0 AND child IS NULL;
CREATE INDEX jobs_ready ON jobs (ready) WHERE ready IS NOT NULL;
CREATE INDEX turns_ready ON turns (ready);

-- Lists of the builds of one branch of all repositories, the newest first.
CREATE INDEX builds_of_branch ON builds (branch, number);
