//! This machine: room on its disks, certificates of its own, git and ssh.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::process::disk::Room;
use crate::process::folders;

/// Below this much room a build of any size ends in the middle, in bytes.
const TOO_LITTLE: u64 = 1 << 30;

/// Below this much room large images do not fit, in bytes.
const LITTLE: u64 = 5 << 30;

/// Where distributions keep authorities that a machine's owner added.
const OWN_AUTHORITIES: [&str; 2] = ["/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"];

/// The folder in which `buildr run` makes workspaces.
pub(super) fn work_folder(named: Option<&Path>) -> PathBuf {
    let usual = || folders::cache("run").unwrap_or_else(|_| std::env::temp_dir());
    named.map_or_else(usual, Path::to_owned)
}

/// Looks at all of it.
pub(super) fn look(work: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = room("disk", work).into_iter().collect();
    findings.push(authorities(&OWN_AUTHORITIES.map(Path::new)));
    let here = std::env::current_dir().unwrap_or_default();
    findings.push(owner(&here, nix::unistd::getuid().as_raw()));
    let home = std::env::home_dir().unwrap_or_default();
    findings.push(ssh(std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).as_deref(), &home.join(".ssh")));
    findings
}

/// The room on the disk of a folder; nothing where the folder is not there.
pub(super) fn room(name: &'static str, folder: &Path) -> Option<Finding> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let room = Room::at(there).ok()?;
    Some(judged(name, folder, room))
}

fn judged(name: &'static str, folder: &Path, room: Room) -> Finding {
    let found = format!("{} GiB free ({} %) at {}", room.free >> 30, room.percent_free(), folder.display());
    let advice = "make room: `docker system df` shows what Docker keeps, `docker image prune` removes what nobody uses";
    if room.free < TOO_LITTLE {
        Finding::fail(name, found, advice)
    } else if room.free < LITTLE || room.percent_free() < 3 {
        Finding::warn(name, found, advice)
    } else {
        Finding::ok(name, found)
    }
}

/// Containers do not trust what this machine trusts.
fn authorities(places: &[&Path]) -> Finding {
    let is_certificate = |path: PathBuf| path.extension().is_some_and(|ending| ending == "crt" || ending == "pem");
    let own = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
    match own.map(|entry| entry.path()).find(|path| is_certificate(path.clone())) {
        Some(found) => Finding::warn(
            "certificates",
            format!("this machine trusts an authority of its own ({})", found.display()),
            "containers do not, unless told: --ca-bundle /etc/ssl/certs/ca-certificates.crt",
        ),
        None => Finding::ok("certificates", "this machine trusts the usual authorities only"),
    }
}

/// Git reads no repository of another user.
fn owner(folder: &Path, user: u32) -> Finding {
    let Some(root) = folder.ancestors().find(|folder| folder.join(".git").exists()) else {
        return Finding::ok("git", "this folder is in no repository; `buildr run` builds all of it");
    };
    match std::fs::metadata(root) {
        Ok(found) if found.uid() != user && user != 0 => Finding::warn(
            "git",
            format!("{} belongs to another user, and git does not trust it", root.display()),
            format!("git config --global --add safe.directory {}", root.display()),
        ),
        _ => Finding::ok("git", format!("the repository {}", root.display())),
    }
}

/// Clones over ssh need a key, and a host that is known.
fn ssh(agent: Option<&Path>, folder: &Path) -> Finding {
    let keys = ["id_ed25519", "id_ecdsa", "id_rsa"].iter().any(|name| folder.join(name).is_file());
    let answers = agent.is_some_and(|socket| UnixStream::connect(socket).is_ok());
    let known = folder.join("known_hosts").is_file() || Path::new("/etc/ssh/ssh_known_hosts").is_file();
    let clone = "only clones over ssh need it";
    match (answers, keys, known) {
        (false, false, _) if agent.is_some() => Finding::warn(
            "ssh",
            "the ssh agent that SSH_AUTH_SOCK names does not answer",
            format!("start one with `eval $(ssh-agent)` and `ssh-add`; {clone}"),
        ),
        (false, false, _) => Finding::ok("ssh", format!("no key and no agent; {clone}")),
        (_, _, false) => Finding::warn(
            "ssh",
            "there is a key, but no host is known",
            format!(
                "add the forge's key: `ssh-keyscan HOST >> ~/.ssh/known_hosts`, and compare it with what the forge publishes; {clone}"
            ),
        ),
        (true, _, true) => Finding::ok("ssh", "an agent answers, and hosts are known"),
        (false, true, true) => Finding::ok("ssh", "there is a key, and hosts are known"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn room_is_judged_by_what_a_build_needs() {
        let at = |free: u64, total: u64| judged("disk", Path::new("/"), Room { free, total, disk: 1 }).state;
        assert_eq!(at(500 << 20, 1 << 40), State::Fail);
        assert_eq!(at(3 << 30, 1 << 40), State::Warn);
        assert_eq!(at(10 << 30, 1 << 40), State::Warn);
        assert_eq!(at(100 << 30, 1 << 40), State::Ok);
    }

    #[test]
    fn authorities_of_ones_own_are_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(authorities(&[folder.path(), Path::new("/nowhere")]).state, State::Ok);
        std::fs::write(folder.path().join("own.crt"), "").unwrap();
        assert_eq!(authorities(&[folder.path()]).state, State::Warn);
    }

    #[test]
    fn repositories_of_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let user = std::fs::metadata(folder.path()).unwrap().uid();
        assert!(owner(folder.path(), user).found.contains("no repository"));
        std::fs::create_dir_all(folder.path().join(".git")).unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        assert_eq!(owner(&folder.path().join("a/b"), user).state, State::Ok);
        let other = owner(folder.path(), user + 1);
        assert_eq!(other.state, State::Warn);
        assert!(other.advice.unwrap().contains("safe.directory"));
    }

    #[test]
    fn keys_and_agents() {
        let folder = tempfile::tempdir().unwrap();
        let at = || ssh(None, folder.path()).state;
        assert_eq!(at(), State::Ok);
        assert_eq!(ssh(Some(Path::new("/nowhere")), folder.path()).state, State::Warn);
        std::fs::write(folder.path().join("id_ed25519"), "").unwrap();
        std::fs::write(folder.path().join("known_hosts"), "").unwrap();
        assert_eq!(at(), State::Ok);
    }
}
