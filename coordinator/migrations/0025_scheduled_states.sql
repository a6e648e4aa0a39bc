-- As before, and whether a schedule began it: a nightly build may run other stages than a push does, so what it says of its
-- branch is compared with what the last night said.
DROP VIEW branch_states;
CREATE VIEW branch_states AS
SELECT b.number, b.repo, b.branch, b.status, b.trigger = 'schedule' AS scheduled
FROM builds b
WHERE b.status IN ('passed', 'failed', 'errored')
      AND b.origin ->> '$.pull_request' IS NULL AND b.origin ->> '$.tag' IS NULL
      AND (b.restart_of IS NULL OR b.commit_id = (
          SELECT t.commit_id FROM builds t
          WHERE t.repo = b.repo AND t.branch = b.branch AND t.number < b.number AND t.restart_of IS NULL
                AND t.origin ->> '$.pull_request' IS NULL AND t.origin ->> '$.tag' IS NULL
          ORDER BY t.number DESC LIMIT 1));
