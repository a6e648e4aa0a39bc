//! What the kernel is told of an overlay, and what it tells of those that there are.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

/// The kernel takes one page of options.
const LONGEST: usize = 4000;

/// What has a meaning of its own in the kernel's list of options.
const SPECIAL: [u8; 3] = *b",:\\";

/// How ours are mounted. A folder of the lower can be renamed as anywhere, a change of a mode or an owner copies no
/// contents, and nothing waits for the disk: a workspace that saw its machine fall is worth nothing.
const OPTIONS: &str = "index=off,redirect_dir=on,metacopy=on,volatile";

/// The kernel's list of mounts, as this process sees them.
const LIST: &str = "/proc/self/mountinfo";

/// Makes an overlay at the empty folder `at`, over folders of which the first is the topmost. Nobody may change these
/// until it is gone.
///
/// # Errors
/// When this process may not mount, or the disk below does not carry an overlay. Nothing is left then.
pub(crate) fn lay(lowers: &[PathBuf], at: &Path) -> io::Result<()> {
    let layers = layers_of(at);
    let made = make(lowers, at, &layers);
    if made.is_err() {
        crate::folder::remove(&layers).ok();
    }
    made
}

fn make(lowers: &[PathBuf], at: &Path, layers: &Path) -> io::Result<()> {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    // Who may not look into the overlay finds no way around it.
    fs::DirBuilder::new().mode(0o700).create(layers)?;
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    // The overlay's own folder is as its upper one.
    if let Some(lower) = lowers.first() {
        fs::set_permissions(&upper, Permissions::from_mode(fs::metadata(lower)?.mode() & 0o7777))?;
    }
    let list: Vec<&OsStr> = lowers.iter().map(|lower| lower.as_os_str()).collect();
    fs::write(layers.join("lowers"), list.join(OsStr::new("\n")).as_bytes())?;
    let options = options(lowers, &upper, &work)?;
    mount(Some("buildr"), at, Some("overlay"), flags_of(at)?, Some(options.as_os_str()))?;
    Ok(())
}

fn options(lowers: &[PathBuf], upper: &Path, work: &Path) -> io::Result<OsString> {
    let all = lowers.iter().map(PathBuf::as_path).chain([upper, work]);
    if let Some(path) = all.into_iter().find(|path| path.as_os_str().as_bytes().iter().any(|b| SPECIAL.contains(b))) {
        let why =
            format!("{} holds a comma, a colon or a backslash, which an overlay's folder may not", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let lowers: Vec<&OsStr> = lowers.iter().map(|lower| lower.as_os_str()).collect();
    let mut options = OsString::from("lowerdir=");
    options.push(lowers.join(OsStr::new(":")));
    for (key, path) in [(",upperdir=", upper), (",workdir=", work)] {
        options.push(key);
        options.push(path);
    }
    options.push(",");
    options.push(OPTIONS);
    if options.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the paths of an overlay's folders are too long"));
    }
    Ok(options)
}

/// What is forbidden on the disk below is forbidden in the overlay.
fn flags_of(at: &Path) -> io::Result<MsFlags> {
    let below = statvfs(at)?.flags();
    let same = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
    ];
    let kept = same.into_iter().filter(|(flag, _)| below.contains(*flag)).map(|(_, flag)| flag);
    Ok(kept.fold(MsFlags::empty(), MsFlags::union))
}

/// Where the overlay at `at` has its own things.
fn layers_of(at: &Path) -> PathBuf {
    beside(at, ".layers")
}

/// What stands beside a folder, by its name with something behind it.
pub(super) fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(what);
    name.into()
}

/// Where the overlay at `at` keeps what was written to it; none when there is no overlay of ours.
pub(crate) fn upper_of(at: &Path) -> Option<PathBuf> {
    let layers = layers_of(at);
    let is_mounted = fs::metadata(at).ok()?.dev() != fs::metadata(&layers).ok()?.dev();
    is_mounted.then(|| layers.join("upper"))
}

/// All folders that the overlay at `at` is made of, the topmost first: what was written to it, then what it lies over.
/// None when there is no overlay of ours.
pub(crate) fn lowers_of(at: &Path) -> Option<Vec<PathBuf>> {
    let upper = upper_of(at)?;
    let list = fs::read(layers_of(at).join("lowers")).ok()?;
    let lowers = list.split(|byte| *byte == b'\n').map(|path| PathBuf::from(OsStr::from_bytes(path)));
    Some(std::iter::once(upper).chain(lowers).collect())
}

/// Takes the overlay at `at` away, with what was written to it; an empty folder is left. When there is none, nothing
/// happens.
///
/// # Errors
/// When the kernel or the disk refuses.
pub(crate) fn remove(at: &Path) -> io::Result<()> {
    if upper_of(at).is_some() {
        unmount(at)?;
    }
    crate::folder::remove(&layers_of(at))
}

/// Takes away every mount below a folder, the last first. Gives how many there were.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn unmount_below(folder: &Path) -> io::Result<usize> {
    let mut below: Vec<PathBuf> =
        list()?.into_iter().map(|mount| mount.at).filter(|at| at.starts_with(folder) && at != folder).collect();
    below.reverse();
    for at in &below {
        unmount(at)?;
    }
    Ok(below.len())
}

/// Whether some overlay that this process sees lies over `lower`.
pub(crate) fn is_in_use(lower: &Path) -> bool {
    let text = lower.as_os_str().as_bytes();
    // What cannot be looked up may be in use.
    list().map_or(true, |mounts| mounts.iter().any(|mount| mount.lies_over(text)))
}

/// Whoever still stands in it keeps it alive until he leaves; nobody else sees it any more.
fn unmount(at: &Path) -> io::Result<()> {
    match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => umount2(at, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)?,
        // Somebody else was faster.
        Err(Errno::EINVAL) if upper_of(at).is_none() => {}
        done => done?,
    }
    Ok(())
}

/// A line of the kernel's list.
struct Mounted {
    at: PathBuf,
    options: Vec<u8>,
}

impl Mounted {
    fn lies_over(&self, lower: &[u8]) -> bool {
        let options = self.options.split(|byte| *byte == b',');
        let lists =
            options.filter_map(|option| option.strip_prefix(b"lowerdir=").or(option.strip_prefix(b"lowerdir+=")));
        lists.flat_map(|list| list.split(|byte| *byte == b':')).any(|path| path == lower)
    }
}

fn list() -> io::Result<Vec<Mounted>> {
    Ok(fs::read(LIST)?.split(|byte| *byte == b'\n').filter_map(parsed).collect())
}

/// `36 35 98:0 /root /at options optional… - type source options`
fn parsed(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let at = PathBuf::from(OsString::from_vec(unescaped(fields.nth(4)?)));
    let options = fields.skip_while(|field| *field != b"-").nth(3).map(unescaped).unwrap_or_default();
    Some(Mounted { at, options })
}

/// Blanks and their like stand as `\040`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, more)) = rest.split_first() {
        let code = (first == b'\\').then(|| more.get(..3)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        text.push(code.unwrap_or(first));
        rest = if code.is_some() { &more[3..] } else { more };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read() {
        let check = |line: &str, at: &str, lower: &str, over: bool| {
            let mounted = parsed(line.as_bytes()).unwrap();
            assert_eq!((mounted.at.as_path(), mounted.lies_over(lower.as_bytes())), (Path::new(at), over), "{line}");
        };
        let plain = "72 27 0:100 / /w/m rw,relatime shared:1 - overlay buildr rw,lowerdir=/c/1:/c/2,upperdir=/w/u";
        check(plain, "/w/m", "/c/2", true);
        check(plain, "/w/m", "/c", false);
        check(r"72 27 0:100 / /w\040x/m rw - overlay buildr rw,lowerdir+=/c\0401", "/w x/m", "/c 1", true);
        check("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard", "/", "/", false);
        assert!(parsed(b"").is_none());
    }

    #[test]
    fn a_path_that_the_kernel_would_misread_is_refused() {
        let check = |lower: &str, works: bool| {
            assert_eq!(options(&[lower.into()], Path::new("/u"), Path::new("/w")).is_ok(), works, "{lower}");
        };
        check("/a b/c", true);
        check("/a,b", false);
        check("/a:b", false);
        check("/a\\b", false);
        check(&"/long".repeat(1000), false);
    }
}
