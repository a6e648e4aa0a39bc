//! The one TLS provider of a process: ring. Clients are built without one of their own and panic when none is there.

/// Installs the provider. Call it before any client of HTTP or AMQP is made; a second call does nothing.
pub fn install() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails only when another thread was first, and that one installed the same.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
}
