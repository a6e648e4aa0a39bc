//! Whether a broker can be reached at all, for a person who asks before anything is set up.

use super::RabbitSettings;
use super::address::Address;
use crate::link::LinkError;

/// Opens one connection and closes it again; declares nothing. Gives the broker's `host:port`.
///
/// # Errors
/// [`LinkError::BadSettings`] for an address that is none, [`LinkError::Away`] with what is wrong and what to do; this
/// takes up to 15 s where nothing answers.
pub async fn probe(settings: &RabbitSettings) -> Result<String, LinkError> {
    let address = Address::read(settings)?;
    let connection = address.connect("buildr doctor").await.map_err(LinkError::Away)?;
    // It answered, which is all that was asked; a connection that is dropped is closed too.
    connection.close(200, "done".into()).await.ok();
    Ok(address.place().to_owned())
}
