//! What every program of the farm does at its start and at its end: say what happens, install the TLS provider,
//! find its folders and settings, count signals, look at its disks, watch over its long-lived tasks. Nothing here
//! knows of builds.

pub mod clock;
pub mod color;
pub mod disk;
pub mod folders;
pub mod memory;
pub mod settings;
pub mod signals;
pub mod supervise;
pub mod telemetry;
pub mod tls;

use std::path::PathBuf;

/// Why a program could not make itself ready.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The filter for log messages cannot be read.
    #[error(
        "{variable}={text:?} is no filter for log messages: {reason}; write a level such as debug, or buildr=debug"
    )]
    Filter {
        /// The environment variable that holds it.
        variable: &'static str,
        /// What it holds.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system does not let signals be received.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// There is no place for the program's folders.
    #[error("failed to find a folder for {what}: neither {variable} nor HOME is set to an absolute path")]
    NoHome {
        /// What was to be kept there.
        what: &'static str,
        /// The variable that names the place.
        variable: &'static str,
    },
    /// A folder for secrets that others could read or change.
    #[error(
        "{path:?} is not a folder that only this user may enter (owner {owner}, mode {mode:03o}); remove it, for a token in it could be read by others"
    )]
    OpenFolder {
        /// The folder.
        path: PathBuf,
        /// Whose it is, as a user id.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Something on the disk could not be read or written.
    #[error("failed to {doing} {path:?}")]
    Disk {
        /// What was being done, as a verb: `read`, `make the folder` …
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of settings is wrong.
    #[error("{path}:{line}:{column}: {reason}", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong there: an unknown key is named, with those that exist.
        reason: String,
    },
}
