//! A person who is not root, on a machine whose Docker daemon is: what stages write in their containers is root's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::place::{Place, program, to_the_end};

/// Nobody's.
const USER: u32 = 65534;

/// One stage leaves folders of root's alone, and those side by side keep files in them.
const MANIFEST: &str = "\
image: IMAGE
stages: [make, [one, two], show]
make: {script: [mkdir -p dist/closed, echo old >dist/both, chmod 700 dist/closed]}
one: {script: [mkdir -p dist/closed, echo 1 >dist/closed/one], artifacts: [dist/closed/one]}
two: {script: [echo new >dist/both, echo 2 >dist/two], artifacts: [dist/both, dist/two]}
show: {script: [cat dist/closed/one dist/two dist/both, stat -c %a dist]}
";

#[tokio::test]
async fn stages_side_by_side_leave_files_in_a_folder_that_root_made() {
    let Some(place) = Place::with(MANIFEST).await else { return };
    let socket = Path::new("/var/run/docker.sock");
    if fs::metadata("/proc/self").unwrap().uid() != 0 || !socket.exists() {
        eprintln!("skipped: it needs root, to become somebody else, and a local daemon");
        return;
    }
    place.write("file", "x");
    // The program is copied to where that person may read it.
    let own = place.path("home").join("buildr");
    fs::copy(program("buildr"), &own).unwrap();
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    give(&place.path(""));
    let mut command = place.command(&own);
    command.arg("run").uid(USER).gid(fs::metadata(socket).unwrap().gid());
    to_the_end(command)
        .await
        .check(0, &["show | 1\n", "show | 2\n", "show | new\n", "show | 755\n"])
        .hides(&["show | old"]);
    place.nothing_is_left().await;
}

fn give(path: &Path) {
    chown(path, Some(USER), None).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}
