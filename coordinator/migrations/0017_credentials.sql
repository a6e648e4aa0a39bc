-- What agents fetch a project's repository with: a deploy key or a token.

-- What people see of it: json CredentialsView.
ALTER TABLE projects ADD COLUMN credentials_shown TEXT;
-- Which key it is sealed with, and nonce, content (json RepoCredentials) and tag.
ALTER TABLE projects ADD COLUMN credentials_by TEXT;
ALTER TABLE projects ADD COLUMN credentials_sealed BLOB;
