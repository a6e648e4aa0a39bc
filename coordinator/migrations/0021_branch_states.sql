-- What each build that is over says of its branch. Pull requests and tags say nothing of one, what was cancelled neither,
-- and nor does one that was done again of a commit that the branch has left behind.
CREATE VIEW branch_states AS
SELECT b.number, b.repo, b.branch, b.status
FROM builds b
WHERE b.status IN ('passed', 'failed', 'errored')
      AND b.origin ->> '$.pull_request' IS NULL AND b.origin ->> '$.tag' IS NULL
      AND (b.restart_of IS NULL OR b.commit_id = (
          SELECT t.commit_id FROM builds t
          WHERE t.repo = b.repo AND t.branch = b.branch AND t.number < b.number AND t.restart_of IS NULL
                AND t.origin ->> '$.pull_request' IS NULL AND t.origin ->> '$.tag' IS NULL
          ORDER BY t.number DESC LIMIT 1));
