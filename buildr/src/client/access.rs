//! Tokens, secrets, and who did what.

use protocol::api::{Audit, MadeToken, MakeToken, RemoveSecret, SecretView, SetSecret, TokenView};
use protocol::secure::FarmKey;

use super::{ClientError, Farm};

impl Farm {
    /// All API tokens, the newest first, without their texts.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get(&["tokens"], &[]).await
    }

    /// Makes an API token; its text is told this once.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn make_token(&self, order: &MakeToken) -> Result<MadeToken, ClientError> {
        self.post(&["tokens"], order).await
    }

    /// Ends a token, and the sessions that were made from it.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn revoke_token(&self, name: &str) -> Result<TokenView, ClientError> {
        self.post(&["tokens", name, "revoke"], &serde_json::json!({})).await
    }

    /// A page of what was done, newest first: what came before `before`, at most `limit` entries.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Audit, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(before.map(|id| ("before", id.to_string())));
        self.get(&["audit"], &query).await
    }

    /// The farm's secrets, without their values.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn secrets(&self) -> Result<Vec<SecretView>, ClientError> {
        self.get(&["secrets"], &[]).await
    }

    /// Keeps a secret on the farm.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn set_secret(&self, order: &SetSecret) -> Result<SecretView, ClientError> {
        self.post(&["secrets"], order).await
    }

    /// Has the farm forget a secret.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn remove_secret(&self, order: &RemoveSecret) -> Result<SecretView, ClientError> {
        self.post(&["secrets", "remove"], order).await
    }

    /// What values in manifests are sealed with.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn sealing_key(&self) -> Result<FarmKey, ClientError> {
        self.get(&["key"], &[]).await
    }
}
