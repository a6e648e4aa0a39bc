//! A wall clock that a test sets for one process: a small library that is loaded before all others and shifts what
//! the kernel says, by the seconds that stand in a file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Only the wall clock is shifted: a machine's clock that goes forward cannot be set.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static int (*real)(clockid_t, struct timespec *);

int clock_gettime(clockid_t id, struct timespec *at) {
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    const char *path = getenv("BUILDR_TEST_CLOCK");
    if (done == 0 && path && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        char text[32] = {0};
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) at->tv_sec += atol(text);
            close(file);
        }
    }
    return done;
}
"#;

/// A clock of one process.
pub struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    /// One that is right.
    ///
    /// # Panics
    /// When there is no C compiler, which building this project needs anyway.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for a clock");
        let source = folder.path().join("clock.c");
        std::fs::write(&source, LIBRARY).expect("a source");
        let library = folder.path().join("clock.so");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]).arg("-ldl");
        let built = compile.status().expect("there is a C compiler");
        assert!(built.success(), "the clock could not be compiled");
        let clock = Self { folder };
        clock.shift(0);
        clock
    }

    /// From now on the process believes that it is so many seconds later.
    pub fn shift(&self, seconds: i64) {
        // In one step: nobody reads half of it.
        let next = self.folder.path().join("next");
        std::fs::write(&next, seconds.to_string()).expect("a file");
        std::fs::rename(next, self.file()).expect("a file");
    }

    /// What the process needs in its environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.folder.path().join("clock.so"))),
            ("BUILDR_TEST_CLOCK".to_owned(), text(&self.file())),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("shift")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
