//! What Travis CI does for a language when the file does not say it: the image, the versions, the usual commands.

/// A language of Travis CI.
#[derive(Debug)]
pub(super) struct Language {
    /// Its names.
    names: &'static [&'static str],
    /// The key of its versions; empty where there is none.
    pub(super) key: &'static str,
    /// The image, with `{}` for the version.
    pub(super) image: &'static str,
    /// The version when none is named.
    pub(super) usual: &'static str,
    /// What is installed when the file does not say it.
    pub(super) install: &'static [&'static str],
    /// What is run when the file does not say it.
    pub(super) script: &'static [&'static str],
}

const LANGUAGES: [Language; 13] = [
    Language {
        names: &["rust"],
        key: "rust",
        image: "rust:{}-bookworm",
        usual: "1",
        install: &[],
        script: &["cargo build --verbose", "cargo test --verbose"],
    },
    Language {
        names: &["python"],
        key: "python",
        image: "python:{}-bookworm",
        usual: "3",
        install: &["if [ -f requirements.txt ]; then pip install -r requirements.txt; fi"],
        script: &[],
    },
    Language {
        names: &["node_js", "javascript"],
        key: "node_js",
        image: "node:{}-bookworm",
        usual: "22",
        install: &["if [ -f package-lock.json ]; then npm ci; else npm install; fi"],
        script: &["npm test"],
    },
    Language {
        names: &["go"],
        key: "go",
        image: "golang:{}-bookworm",
        usual: "1.25",
        install: &[],
        script: &["go test -v ./..."],
    },
    Language {
        names: &["ruby"],
        key: "rvm",
        image: "ruby:{}-bookworm",
        usual: "3.4",
        install: &["bundle install --jobs=3 --retry=3"],
        script: &["bundle exec rake"],
    },
    Language {
        names: &["php"],
        key: "php",
        image: "php:{}-cli-bookworm",
        usual: "8.4",
        install: &[],
        script: &["phpunit"],
    },
    Language {
        names: &["java", "groovy", "scala", "kotlin"],
        key: "jdk",
        image: "maven:3-eclipse-temurin-{}",
        usual: "21",
        install: &["mvn install -DskipTests=true -Dmaven.javadoc.skip=true -B -V"],
        script: &["mvn test -B"],
    },
    Language {
        names: &["elixir"],
        key: "elixir",
        image: "elixir:{}",
        usual: "1.18",
        install: &["mix local.hex --force", "mix deps.get"],
        script: &["mix test"],
    },
    Language {
        names: &["perl"],
        key: "perl",
        image: "perl:{}-bookworm",
        usual: "5.40",
        install: &["cpanm --quiet --installdeps --notest ."],
        script: &["prove -l -r -s t/"],
    },
    Language {
        names: &["haskell"],
        key: "ghc",
        image: "haskell:{}",
        usual: "9.10",
        install: &["cabal update", "cabal build --only-dependencies --enable-tests"],
        script: &["cabal test"],
    },
    Language {
        names: &["c", "cpp", "c++"],
        key: "compiler",
        image: "gcc:14-bookworm",
        usual: "gcc",
        install: &[],
        script: &["./configure && make && make test"],
    },
    Language {
        names: &["dart"],
        key: "dart",
        image: "dart:{}",
        usual: "stable",
        install: &["dart pub get"],
        script: &["dart test"],
    },
    Language {
        names: &["generic", "minimal", "bash", "sh", "shell"],
        key: "",
        image: "buildpack-deps:bookworm",
        usual: "",
        install: &[],
        script: &[],
    },
];

/// The language of that name.
pub(super) fn named(name: &str) -> Option<&'static Language> {
    let name = name.to_lowercase();
    LANGUAGES.iter().find(|language| language.names.contains(&name.as_str()))
}

/// The language whose versions a key names.
pub(super) fn by_key(key: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| !language.key.is_empty() && language.key == key)
}

/// A version as images are tagged: `openjdk17` is `17`, `3.9-dev` is `3.9`, `stable` is the usual one.
pub(super) fn tag(language: &Language, version: &str) -> String {
    let plain = version
        .trim_start_matches("openjdk")
        .trim_start_matches("oraclejdk")
        .trim_end_matches(".x")
        .trim_end_matches("-dev");
    match plain {
        "stable" | "latest" | "lts/*" | "node" | "default" | "master" | "" => language.usual.to_owned(),
        plain => plain.to_owned(),
    }
}
