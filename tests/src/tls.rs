//! A port that speaks TLS in front of a real broker's plain one, with certificates that live as long as a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::task;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The port. It is closed when this is dropped.
pub struct TlsPort {
    /// Where it is.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    accepting: JoinHandle<()>,
}

impl TlsPort {
    /// Opens one for `localhost` in front of a broker's address, with an authority of its own.
    ///
    /// # Panics
    /// When it cannot; so do the others.
    pub async fn in_front_of(broker: &str) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let authority = authority("the farm's own authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a key that fits");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        std::fs::write(folder.path().join("other.pem"), self::authority("somebody else").pem()).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepting = task::spawn("tls port", accept(listener, acceptor, broker.to_owned()));
        Self { address, folder, accepting }
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// That of an authority which has nothing to do with it.
    #[must_use]
    pub fn other_ca(&self) -> PathBuf {
        self.folder.path().join("other.pem")
    }

    /// A file that holds this.
    #[must_use]
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }
}

impl Drop for TlsPort {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, broker: String) {
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, broker) = (acceptor.clone(), broker.clone());
        task::spawn("tls connection", async move {
            // Who does not like the certificate hangs up.
            let Ok(mut near) = acceptor.accept(socket).await else { return };
            let mut far = TcpStream::connect(broker).await.expect("a broker");
            tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
        });
    }
}
