//! Repositories, and the server that agents clone them from.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use farm::smart_http;
use protocol::RepoUrl;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// A server of the repositories in its folder, until this is dropped.
pub(crate) struct Town {
    folder: PathBuf,
    port: u16,
    serving: JoinHandle<()>,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Town {
    /// Serves what lies in a folder.
    pub(crate) async fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let serving = protocol::task::spawn("git server", smart_http::serve(listener, folder.clone()));
        Ok(Self { folder, port, serving })
    }

    /// What agents clone a repository from.
    pub(crate) fn url(&self, name: &str) -> Result<RepoUrl> {
        Ok(format!("http://127.0.0.1:{}/{name}", self.port).parse()?)
    }

    /// Where it lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a bare repository whose branch `main` has one commit with a manifest and so many random files of so many
    /// bytes, a hundred in a folder.
    pub(crate) async fn make(&self, name: &str, manifest: &str, files: u32, bytes: usize) -> Result<RepoUrl> {
        let path = self.path(name);
        git(&self.folder, &["init", "--quiet", "--bare", "--initial-branch=main", name]).await?;
        self.import(&path, None, files, bytes, manifest).await?;
        self.url(name)
    }

    /// Adds a commit that writes the first so many files anew.
    pub(crate) async fn change(&self, name: &str, manifest: &str, files: u32, bytes: usize) -> Result<()> {
        let path = self.path(name);
        self.import(&path, Some("refs/heads/main^0"), files, bytes, manifest).await
    }

    async fn import(&self, path: &Path, from: Option<&str>, files: u32, bytes: usize, manifest: &str) -> Result<()> {
        let mut command = Command::new("git");
        command.args(["fast-import", "--quiet", "--force"]).current_dir(path).stdin(Stdio::piped());
        let mut import = command.kill_on_drop(true).spawn().context("git fast-import")?;
        let mut input = import.stdin.take().context("git's input")?;
        let mut head =
            "commit refs/heads/main\ncommitter Ada <ada@example.org> 1700000000 +0000\ndata 8\na change\n".to_owned();
        if let Some(from) = from {
            head.push_str(&format!("from {from}\n"));
        }
        head.push_str(&format!("M 100644 inline .buildr.yml\ndata {}\n{manifest}\n", manifest.len()));
        input.write_all(head.as_bytes()).await?;
        let mut random = std::fs::File::open("/dev/urandom")?;
        let mut content = vec![0; bytes];
        for file in 0..files {
            std::io::Read::read_exact(&mut random, &mut content)?;
            input.write_all(format!("M 100644 inline {:03}/{file:05}\ndata {bytes}\n", file / 100).as_bytes()).await?;
            input.write_all(&content).await?;
            input.write_all(b"\n").await?;
        }
        drop(input);
        let ended = import.wait().await?;
        ensure!(ended.success(), "git fast-import ended with {ended}");
        Ok(())
    }
}

/// Runs git, which must end well.
pub(crate) async fn git(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("git").args(arguments).current_dir(folder).output().await.context("git")?;
    ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
