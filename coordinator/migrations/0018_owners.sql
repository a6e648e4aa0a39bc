-- What the owners of a project set for it.

-- For how long its builds are kept, and what they leave: none as the farm says, 0 without end.
ALTER TABLE projects ADD COLUMN keep_builds INTEGER;
ALTER TABLE projects ADD COLUMN keep_days INTEGER;
ALTER TABLE projects ADD COLUMN keep_logs_days INTEGER;
ALTER TABLE projects ADD COLUMN keep_artifacts_days INTEGER;

-- Who gets a mail when a branch of it breaks or is fixed, beside those whom the farm names: json array of addresses.
ALTER TABLE projects ADD COLUMN mail TEXT NOT NULL DEFAULT '[]';

-- To whom it is said: an address of mail, or empty for the farm's webhook. One row for each.
ALTER TABLE notices ADD COLUMN recipient TEXT NOT NULL DEFAULT '';

CREATE INDEX notices_by_recipient ON notices (recipient, id);
