//! A git server over smart HTTP, for cloning and pushing: `git http-backend` behind a few lines of HTTP. Its
//! repositories are bare, and lie in a folder of its own. Which branches there are it says from memory as long as none
//! has changed, as a forge does: two programs would else be started for each build, on the machine that is measured.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use git2::{Oid, Repository, RepositoryInitOptions, Signature};
use protocol::{CommitId, RepoUrl, task};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// The server; it ends when this is dropped.
pub struct SmartHttp {
    folder: tempfile::TempDir,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for SmartHttp {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl SmartHttp {
    /// Starts one without repositories.
    ///
    /// # Panics
    /// When this machine refuses; so do the others.
    pub async fn start() -> Self {
        Self::opened_by(None).await
    }

    /// Starts one that lets in nobody but who shows this user and password.
    pub async fn private(user: &str, password: &str) -> Self {
        Self::opened_by(Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))).await
    }

    async fn opened_by(authorization: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for repositories");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let base = folder.path().to_owned();
        let serving = task::spawn("git server", admit(listener, base.into(), authorization));
        Self { folder, address, serving }
    }

    /// Makes an empty repository.
    #[must_use]
    pub fn make(&self, name: &str) -> Hosted {
        let path = self.folder.path().join(format!("{name}.git"));
        let mut options = RepositoryInitOptions::new();
        options.bare(true).initial_head("main").external_template(false).mkpath(true);
        let git = Repository::init_opts(&path, &options).expect("a repository");
        let url = format!("http://{}/{name}.git", self.address).parse().expect("a URL");
        Hosted { path, git, url }
    }
}

/// A repository on the server.
pub struct Hosted {
    path: PathBuf,
    /// The repository itself.
    pub git: Repository,
    /// Where it is cloned from and pushed to.
    pub url: RepoUrl,
}

impl Hosted {
    /// Adds a commit with these files to those of its first parent, under a ref if one is given.
    ///
    /// # Panics
    /// When git refuses; so do the others.
    pub fn commit(&self, reference: Option<&str>, parents: &[&CommitId], files: &[(&str, &str)]) -> CommitId {
        let parents: Vec<_> = parents
            .iter()
            .map(|parent| Oid::from_str(parent.as_str()).and_then(|oid| self.git.find_commit(oid)).expect("a parent"))
            .collect();
        let mut index = git2::Index::new().expect("an index");
        for parent in parents.iter().rev() {
            // Of several the first wins, and what the others have beside it is there too.
            let tree = parent.tree().expect("a tree");
            tree.walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
                if entry.kind() == Some(git2::ObjectType::Blob) {
                    let path = format!("{folder}{}", entry.name().expect("a name"));
                    index.add(&index_entry(&path, entry.id())).expect("an entry");
                }
                git2::TreeWalkResult::Ok
            })
            .expect("a walk");
        }
        for (path, text) in files {
            let blob = self.git.blob(text.as_bytes()).expect("a file");
            index.add(&index_entry(path, blob)).expect("an entry");
        }
        let tree = index.write_tree_to(&self.git).and_then(|tree| self.git.find_tree(tree)).expect("a tree");
        let author = Signature::now("Ada", "ada@example.org").expect("an author");
        let parents: Vec<_> = parents.iter().collect();
        let commit = self.git.commit(None, &author, &author, "A change\n\nof files", &tree, &parents);
        let commit = commit.expect("a commit");
        if let Some(reference) = reference {
            self.git.reference(reference, commit, true, "test").expect("a ref");
        }
        commit.to_string().parse().expect("a commit's name")
    }

    /// Adds a submodule to a commit of this repository, under the same ref.
    pub fn add_module(&self, reference: &str, path: &str, commit: &CommitId) -> CommitId {
        let parent = self.git.find_reference(reference).and_then(|found| found.peel_to_commit()).expect("a parent");
        let tree = parent.tree().expect("a tree");
        let mut update = git2::build::TreeUpdateBuilder::new();
        update.upsert(path, Oid::from_str(commit.as_str()).expect("a commit"), git2::FileMode::Commit);
        let tree = update.create_updated(&self.git, &tree).and_then(|tree| self.git.find_tree(tree)).expect("a tree");
        let author = Signature::now("Ada", "ada@example.org").expect("an author");
        let commit = self.git.commit(Some(reference), &author, &author, "A submodule", &tree, &[&parent]);
        commit.expect("a commit").to_string().parse().expect("a commit's name")
    }

    /// Has git run this script after each push; it reads `OLD NEW REF` in lines.
    pub fn after_push(&self, script: &str) {
        let path = self.path.join("hooks/post-receive");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, script).expect("a hook");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    }
}

fn index_entry(path: &str, id: Oid) -> git2::IndexEntry {
    let none = git2::IndexTime::new(0, 0);
    let (mode, path) = (0o100_644, path.as_bytes().to_vec());
    git2::IndexEntry {
        ctime: none,
        mtime: none,
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path,
    }
}

/// Serves the bare repositories below a folder to whoever connects, until this is dropped.
pub async fn serve(listener: TcpListener, base: PathBuf) {
    admit(listener, base.into(), None).await;
}

/// Where repositories lie, and what was said of their branches.
struct Base {
    folder: PathBuf,
    said: Mutex<HashMap<Asked, Said>>,
}

/// A question for the branches of a repository: path, query, and the protocol's version.
type Asked = [String; 3];

/// What was answered, and the refs that it came from.
struct Said {
    refs: Vec<Ref>,
    answer: Vec<u8>,
}

/// A file in which a ref stands, and what is in it.
type Ref = (PathBuf, Option<Vec<u8>>);

impl From<PathBuf> for Base {
    fn from(folder: PathBuf) -> Self {
        Self { folder, said: Mutex::default() }
    }
}

impl Base {
    /// The files in which the refs of a repository stand, as they are now.
    fn refs(&self, path: &str) -> Vec<Ref> {
        let repository = self.folder.join(path.trim_start_matches('/').trim_end_matches("/info/refs"));
        let mut refs = Vec::new();
        let mut open: Vec<PathBuf> = ["HEAD", "config", "packed-refs", "refs"].map(|name| repository.join(name)).into();
        while let Some(path) = open.pop() {
            if let Ok(entries) = std::fs::read_dir(&path) {
                open.extend(entries.flatten().map(|entry| entry.path()));
            }
            let content = std::fs::read(&path).ok();
            refs.push((path, content));
        }
        refs.sort();
        refs
    }

    /// What was answered, where that is still so.
    fn remembered(&self, asked: &Asked, refs: &[Ref]) -> Option<Vec<u8>> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(asked).filter(|said| said.refs == refs).map(|said| said.answer.clone())
    }
}

/// The same for whoever shows this authorization, where there is one.
async fn admit(listener: TcpListener, base: Base, authorization: Option<String>) {
    let base = Arc::new(base);
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let (base, authorization) = (Arc::clone(&base), authorization.clone());
        // It ends with its connection, and a client that goes away is its own business.
        task::spawn("git request", async move { answer(stream, &base, authorization.as_deref()).await.ok() });
    }
}

/// One request after the other, on one connection.
async fn answer(stream: TcpStream, base: &Base, authorization: Option<&str>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while answer_one(&mut reader, base, authorization).await? {}
    Ok(())
}

/// One request; `false` when there is no other.
async fn answer_one(reader: &mut BufReader<TcpStream>, base: &Base, authorization: Option<&str>) -> Result<bool> {
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
    if authorization.is_some_and(|authorization| field("authorization") != authorization) {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
        reader.get_mut().write_all(refusal.as_bytes()).await?;
        return Ok(true);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = [path.to_owned(), query.to_owned(), field("git-protocol")];
    // Before git is asked: what changes meanwhile is another answer's.
    let refs = (method == "GET" && path.ends_with("/info/refs")).then(|| base.refs(path));
    if let Some(answer) = refs.as_ref().and_then(|refs| base.remembered(&asked, refs)) {
        reader.get_mut().write_all(&answer).await?;
        return Ok(true);
    }
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", &base.folder)
        .env("GIT_HTTP_EXPORT_ALL", "1");
    // Somebody who is known may push.
    git.env("REMOTE_USER", "ada").env("REMOTE_ADDR", "127.0.0.1");
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
    let answer = [head.as_bytes(), body].concat();
    reader.get_mut().write_all(&answer).await?;
    if let Some(refs) = refs {
        base.said.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, Said { refs, answer });
    }
    Ok(true)
}
