-- Which repository it is, however its URL is written. Builds of before that are over have none.
ALTER TABLE builds ADD COLUMN identity TEXT;

DROP INDEX builds_open;
CREATE INDEX builds_open ON builds (identity, number) WHERE ended_ms IS NULL;
