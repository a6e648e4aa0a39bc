-- What webhooks are signed with and what forges are shown, sealed with the key of the farm's secrets. What an older program
-- left as it is is sealed when the coordinator begins; the columns `secret` and `token` are empty from then on.

-- Which key it is sealed with; none for what is not sealed yet.
ALTER TABLE projects ADD COLUMN secret_by TEXT;
-- Nonce, content and tag. The purpose and the identity are bound to it.
ALTER TABLE projects ADD COLUMN secret_sealed BLOB;

ALTER TABLE reporting ADD COLUMN token_by TEXT;
ALTER TABLE reporting ADD COLUMN token_sealed BLOB;
