-- Whether the forge refused what a row wanted last: told again once another token is set.
ALTER TABLE statuses ADD COLUMN refused INTEGER NOT NULL DEFAULT 0 CHECK (refused IN (0, 1));

-- Before when nothing of the repository is told, for its forge said so.
ALTER TABLE reporting ADD COLUMN not_before_ms INTEGER NOT NULL DEFAULT 0;
