//! Repositories, and the server that agents clone them from: `git http-backend` behind a few lines of HTTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use protocol::RepoUrl;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
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
        let base = folder.clone();
        let serving = protocol::task::spawn("git server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).ok();
                let base = base.clone();
                // It ends with its connection.
                drop(protocol::task::spawn("git request", async move {
                    // A client that goes away is its own business.
                    answer(stream, &base).await.ok();
                }));
            }
        });
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

/// One request after the other, on one connection.
async fn answer(stream: TcpStream, base: &Path) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while answer_one(&mut reader, base).await? {}
    Ok(())
}

/// One request; `false` when there is no other.
async fn answer_one(reader: &mut BufReader<TcpStream>, base: &Path) -> Result<bool> {
    let mut line = String::new();
    if reader.read_line(&mut line).await? == 0 {
        return Ok(false);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().context("a method")?, words.next().context("a path")?);
    let mut fields = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.insert(name.to_lowercase(), value.to_owned());
    }
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let length: usize = field("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "http-backend"]).env("GIT_PROJECT_ROOT", base).env("GIT_HTTP_EXPORT_ALL", "1");
    git.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    git.env("CONTENT_TYPE", field("content-type")).env("HTTP_CONTENT_ENCODING", field("content-encoding"));
    git.env("GIT_PROTOCOL", field("git-protocol")).env("CONTENT_LENGTH", length.to_string());
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let mut input = git.stdin.take().context("its input")?;
    let write = async move {
        // What it does not read it does not need.
        input.write_all(&body).await.ok();
    };
    let ((), output) = tokio::join!(write, git.wait_with_output());
    let output = output?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").context("the head of an answer")?;
    let (head, body) = (String::from_utf8_lossy(&output[..end]), &output[end + 4..]);
    let status = if head.contains("Status: 404") { "404 Not Found" } else { "200 OK" };
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or("text/plain");
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    // Together: half a packet would wait for the other's acknowledgement.
    reader.get_mut().write_all(&[head.as_bytes(), body].concat()).await?;
    Ok(true)
}
