//! Taking little memory, and giving back what a program does not need while it has nothing to do.
//!
//! Most of what an idle program of the farm holds is its own code: what its start needed once, and what the last job
//! did. The kernel keeps those pages mapped, for nobody asks for them back, and counts them as the program's. They are
//! given back when it has been idle for a while: what is needed again is mapped again, out of the page cache, in less
//! than a millisecond.

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};
use nix::sys::resource::{UsageWho, getrusage};

/// How often it is looked whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who has used less of a processor than this since the last look is idle.
const IDLE: Duration = Duration::from_millis(10);

/// Who has used more than this since memory was given back may have mapped some of it again.
const WORKED: Duration = Duration::from_millis(20);

/// Has threads share the pools that they take memory from: one for two processors, where glibc has eight for each. What
/// one thread gives back another can take then; else each pool keeps the most that it ever held. To be called before
/// there are other threads.
pub fn share_pools() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_ARENA_MAX, c_int, mallopt};
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pools = c_int::try_from(processors.div_ceil(2)).unwrap_or(c_int::MAX);
        // SAFETY: it sets a number, and nobody else is there yet.
        #[expect(unsafe_code, reason = "the allocator is told of it")]
        unsafe {
            mallopt(M_ARENA_MAX, pools);
        }
    }
}

/// Gives memory back whenever this process is idle after it has worked. It never ends.
pub async fn give_back_when_idle() {
    // The start itself is work, and most of what it needed is not needed again.
    let (mut last, mut given_at) = (worked(), None::<Duration>);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = worked();
        let is_idle = now.saturating_sub(last) < IDLE;
        last = now;
        if is_idle && given_at.is_none_or(|given| now.saturating_sub(given) > WORKED) {
            match give_back() {
                Ok(bytes) => tracing::debug!(bytes, "mapped code was given back"),
                Err(error) => return tracing::debug!(%error, "mapped code stays mapped"),
            }
            given_at = Some(worked());
        }
    }
}

/// How long this process has used a processor.
fn worked() -> Duration {
    let micros = |value: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(value.tv_sec()).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(value.tv_usec()).unwrap_or_default())
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(Duration::ZERO, |usage| micros(usage.user_time()) + micros(usage.system_time()))
}

/// A part of this process's memory that shows a file and cannot be written to.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    begin: usize,
    bytes: usize,
}

/// Has the kernel unmap what shows files as they are; gives how many bytes of addresses that is.
fn give_back() -> io::Result<usize> {
    let mut bytes = 0;
    for part in shown(&std::fs::read_to_string("/proc/self/smaps")?) {
        let Some(begin) = NonNull::new(std::ptr::without_provenance_mut::<c_void>(part.begin)) else { continue };
        // SAFETY: the part shows a file, nobody can write to it, and no page of it differs from the file: whoever
        // reads or runs it next finds the same there.
        #[expect(unsafe_code, reason = "the kernel is told of addresses")]
        unsafe {
            madvise(begin, part.bytes, MmapAdvise::MADV_DONTNEED)?;
        }
        bytes += part.bytes;
    }
    Ok(bytes)
}

/// The parts that show a file just as it is: none that can be written to, and none that was (what a program's start has
/// filled in and closed again).
fn shown(smaps: &str) -> Vec<Shown> {
    let (mut found, mut part): (Vec<Shown>, Option<Shown>) = (Vec::new(), None);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(name) = first.strip_suffix(':') {
            let own = matches!(name, "Anonymous" | "Private_Dirty" | "Swap");
            if own && words.next() != Some("0") {
                part = None;
            }
        } else {
            found.extend(part.take());
            part = header(first, words.next(), words.nth(3));
        }
    }
    found.extend(part);
    found
}

fn header(addresses: &str, permissions: Option<&str>, path: Option<&str>) -> Option<Shown> {
    let (begin, end) = addresses.split_once('-')?;
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let (begin, end) = (address(begin)?, address(end)?);
    let is_closed = permissions.is_some_and(|permissions| permissions.starts_with("r-") && permissions.ends_with('p'));
    let is_file = path.is_some_and(|path| path.starts_with('/'));
    (is_closed && is_file).then(|| Shown { begin, bytes: end.saturating_sub(begin) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0-55e0 r--p 00000000 fe:00 1  /usr/bin/x\nSize: 64 kB\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\nVmFlags: rd\n\
55e0-5600 r-xp 00010000 fe:00 1  /usr/bin/x\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
5600-5610 r--p 00030000 fe:00 1  /usr/bin/x\nPrivate_Dirty: 8 kB\nAnonymous: 8 kB\nSwap: 0 kB\n\
5610-5620 r--p 00030000 fe:00 1  /usr/bin/x\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 4 kB\n\
5620-5630 rw-p 00040000 fe:00 1  /usr/bin/x\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
5630-5640 r--s 00000000 fe:00 2  /a/database\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
7f00-7f10 r-xp 00000000 00:00 0  [vdso]\nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\n\
7f10-7f20 r--p 00000000 00:00 0 \nPrivate_Dirty: 0 kB\nAnonymous: 0 kB\nSwap: 0 kB\n";

    #[test]
    fn only_what_shows_a_file_as_it_is_may_go() {
        let expect = [Shown { begin: 0x55d0, bytes: 0x10 }, Shown { begin: 0x55e0, bytes: 0x20 }];
        assert_eq!(shown(SMAPS), expect);
    }

    #[test]
    fn a_program_goes_on_after_it() {
        assert!(give_back().unwrap() > 1 << 20, "at least its own code");
        assert_eq!(format!("{:?}", "still".repeat(2)), "\"stillstill\"");
        assert!(worked() > Duration::ZERO);
    }
}
