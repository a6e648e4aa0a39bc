-- Where the time of attempts went, and builds of one branch, the newest first.

ALTER TABLE attempts ADD COLUMN spent TEXT; -- json array of Span

CREATE INDEX builds_by_branch ON builds (repo, branch, number);
