//! What one language, or one tool, needs to be built and tested.

/// When a stage runs among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// First, by itself: what it leaves in the workspace is there for all others.
    Build,
    /// Beside others.
    Test,
    /// Last, by itself.
    Package,
}

/// One stage to be.
#[derive(Debug, Clone)]
pub(super) struct Idea {
    pub(super) name: &'static str,
    pub(super) turn: Turn,
    /// What a person should know of it.
    pub(super) about: String,
    pub(super) script: Vec<String>,
    /// Globs of JUnit reports that it leaves.
    pub(super) junit: Vec<String>,
    /// The coverage report that it leaves.
    pub(super) coverage: Option<String>,
    /// What of it is kept.
    pub(super) artifacts: Vec<String>,
    /// Whether a failure is only shown.
    pub(super) may_fail: bool,
    /// Whether it asks for Docker.
    pub(super) docker: bool,
}

impl Idea {
    pub(super) fn new<T: Into<String>>(name: &'static str, turn: Turn, script: impl IntoIterator<Item = T>) -> Self {
        Self {
            name,
            turn,
            about: String::new(),
            script: script.into_iter().map(Into::into).collect(),
            junit: Vec::new(),
            coverage: None,
            artifacts: Vec::new(),
            may_fail: false,
            docker: false,
        }
    }

    pub(super) fn about(mut self, text: impl Into<String>) -> Self {
        self.about = text.into();
        self
    }

    /// A look at the style of the code: most projects fail one that they never asked for.
    pub(super) fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }
}

/// Folders that are kept between builds, and the files whose change makes them anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) paths: Vec<String>,
    pub(super) key: Vec<String>,
}

/// All that a language needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// Its name, as people write it.
    pub(super) title: &'static str,
    /// The file by which it is known.
    pub(super) told_by: String,
    /// The image that has its tools.
    pub(super) image: String,
    /// Debian packages that its own image lacks.
    pub(super) more_packages: Vec<&'static str>,
    /// Debian packages that bring its tools into a bare system.
    pub(super) packages: Vec<&'static str>,
    /// Commands that make the tools of a bare system complete.
    pub(super) bare: Vec<String>,
    /// Commands of `prepare`, in any image.
    pub(super) prepare: Vec<String>,
    /// The files that `prepare` reads, and on which it depends.
    pub(super) files: Vec<String>,
    /// Variables of all its stages.
    pub(super) variables: Vec<(&'static str, &'static str)>,
    /// Variables where its tools come from Debian packages.
    pub(super) bare_variables: Vec<(&'static str, &'static str)>,
    pub(super) kept: Option<Kept>,
    pub(super) ideas: Vec<Idea>,
}

/// Texts of texts.
pub(super) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
