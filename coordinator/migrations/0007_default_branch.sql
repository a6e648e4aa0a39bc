-- The branch that the repository's HEAD means, as the first checkout of the build found it: what caches fall back to.
ALTER TABLE builds ADD COLUMN default_branch TEXT;
