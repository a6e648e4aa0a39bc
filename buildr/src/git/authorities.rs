//! When OpenSSL reads the authorities by which it knows web servers.
//!
//! libgit2 has it read the whole bundle as soon as it begins: 20 ms and 3 MB of each process, most of which never speak TLS
//! with a git server. A program that is gone in a moment and says [`begin_without`] first reads it at its first connection.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where OpenSSL looks for a bundle, and for a folder, when it is not told.
const FILE: &str = "SSL_CERT_FILE";
const FOLDER: &str = "SSL_CERT_DIR";

/// Whether they are still to be read.
static MISSING: AtomicBool = AtomicBool::new(false);

/// Has libgit2 begin without them. Only for the first line of a program: while this goes on nobody else may look at the
/// environment.
#[expect(unsafe_code, reason = "the environment is the only way to tell OpenSSL before it begins")]
pub fn begin_without() {
    let said = std::env::var_os(FILE);
    // SAFETY: the caller's promise; there is one thread.
    unsafe { std::env::set_var(FILE, "/dev/null") };
    libgit2_sys::init();
    // SAFETY: the same.
    unsafe {
        match said {
            Some(said) => std::env::set_var(FILE, said),
            None => std::env::remove_var(FILE),
        }
    }
    MISSING.store(true, Ordering::Release);
}

/// Has them read, if they have not been: whoever connects needs them.
#[expect(unsafe_code, reason = "libgit2 keeps them in an unguarded global; the Once is the guard")]
pub(super) fn read() {
    static READ: Once = Once::new();
    if MISSING.load(Ordering::Acquire) {
        READ.call_once(|| {
            // git2 has looked for them by now, where nobody said where they are.
            let (file, folder) = (place(FILE), place(FOLDER));
            // SAFETY: nobody connects before this has returned, and nothing else looks at them.
            let file = file.map_or(Ok(()), |file| unsafe { git2::opts::set_ssl_cert_file(file) });
            // SAFETY: the same.
            let folder = folder.map_or(Ok(()), |folder| unsafe { git2::opts::set_ssl_cert_dir(folder) });
            if let Err(error) = file.and(folder) {
                tracing::warn!(%error, "the certificates of authorities cannot be read; https clones will fail");
            }
        });
    }
}

fn place(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|place| Path::new(place).exists())
}
