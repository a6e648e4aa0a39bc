//! What a `.gitmodules` says, and which of it is believed: the file is written by whoever wrote the commit.
//!
//! Only the path and the URL of a submodule are read. Neither git's includes nor its `update` commands are followed.

use protocol::RepoUrl;
use url::Url;

/// More than this is no list of submodules.
pub(super) const LONGEST: u64 = 1 << 20;

/// A submodule as the file names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Section {
    pub(super) name: String,
    /// Where it lies, from the root of the checkout.
    pub(super) path: Option<String>,
    /// Where it comes from, as written.
    pub(super) url: Option<String>,
}

/// Reads the file, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Section>, String> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut sections: Vec<Section> = Vec::new();
    // The place of the section that is being read; none in one that is no submodule's.
    let mut open = None;
    loop {
        reader.skip_blank();
        let Some(first) = reader.rest.chars().next() else { return Ok(sections) };
        if first == '[' {
            open = reader.header()?.map(|name| {
                let known = sections.iter().position(|section| section.name == name);
                known.unwrap_or_else(|| {
                    sections.push(Section { name, ..Section::default() });
                    sections.len() - 1
                })
            });
            continue;
        }
        let (key, value) = reader.setting()?;
        if let Some(section) = open.and_then(|place: usize| sections.get_mut(place)) {
            match key.as_str() {
                "path" => section.path = value,
                "url" => section.url = value,
                _ => {}
            }
        }
    }
}

/// Git's format of settings, as far as it is used here.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn wrong(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }

    /// White space, and comments to the end of their lines.
    fn skip_blank(&mut self) {
        while let Some(next) = self.rest.chars().next() {
            if next == '#' || next == ';' {
                self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
            } else if next.is_whitespace() {
                self.next();
            } else {
                return;
            }
        }
    }

    /// `[submodule "NAME"]`, with the name; none for any other section.
    fn header(&mut self) -> Result<Option<String>, String> {
        self.next();
        let end = self.rest.find(['"', ']', '\n']).ok_or_else(|| self.wrong("a section does not end"))?;
        let kind = self.rest[..end].trim().to_ascii_lowercase();
        self.rest = &self.rest[end..];
        let mut name = None;
        if self.rest.starts_with('"') {
            self.next();
            name = Some(self.section_name()?);
        }
        if self.next() != Some(']') {
            return Err(self.wrong("a section's name does not end with ]"));
        }
        Ok(name.filter(|_| kind == "submodule"))
    }

    fn section_name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(name),
                Some('\\') => match self.next() {
                    Some(escaped) if escaped != '\n' => name.push(escaped),
                    _ => return Err(self.wrong("a section's name goes over the end of its line")),
                },
                Some(next) if next != '\n' => name.push(next),
                _ => return Err(self.wrong("a section's name goes over the end of its line")),
            }
        }
    }

    /// `key = value`; none for a key that stands alone.
    fn setting(&mut self) -> Result<(String, Option<String>), String> {
        let is_key = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let end = self.rest.find(|c| !is_key(c)).unwrap_or(self.rest.len());
        let key = self.rest[..end].to_ascii_lowercase();
        if key.is_empty() {
            return Err(self.wrong("neither a section nor a setting begins here"));
        }
        self.rest = self.rest[end..].trim_start_matches([' ', '\t']);
        match self.rest.chars().next() {
            Some('=') => {
                self.next();
                Ok((key, Some(self.value()?)))
            }
            None | Some('\n' | '\r' | '#' | ';') => Ok((key, None)),
            Some(_) => Err(self.wrong("a setting has no =")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        // White space counts between words and within quotes, not at the ends.
        let (mut value, mut kept, mut quoted) = (String::new(), 0, false);
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        loop {
            let next = self.next();
            match next {
                None | Some('\n') if quoted => return Err(self.wrong("quotes do not end on their line")),
                None | Some('\n') => break,
                Some('#' | ';') if !quoted => {
                    self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
                    break;
                }
                Some('"') => {
                    quoted = !quoted;
                    kept = value.len();
                }
                Some('\\') => {
                    value.extend(self.escape()?);
                    kept = value.len();
                }
                Some(next) => {
                    value.push(next);
                    if quoted || !next.is_whitespace() {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
        Ok(value)
    }

    /// What follows a `\`; nothing when the line goes on in the next one.
    fn escape(&mut self) -> Result<Option<char>, String> {
        match self.next() {
            Some('\n') => Ok(None),
            Some('\r') if self.rest.starts_with('\n') => {
                self.next();
                Ok(None)
            }
            Some(same @ ('"' | '\\')) => Ok(Some(same)),
            Some('n') => Ok(Some('\n')),
            Some('t') => Ok(Some('\t')),
            Some('b') => Ok(Some('\u{8}')),
            _ => Err(self.wrong("a \\ is followed by what git does not know")),
        }
    }
}

/// Where a submodule of `parent` comes from, or why nobody goes there. A URL on the server of `parent` gets the
/// credentials of that one's URL; no other does.
pub(super) fn url_of(parent: &RepoUrl, text: &str) -> Result<RepoUrl, String> {
    let resolved = match text.starts_with("./") || text.starts_with("../") {
        true => relative(parent.reveal(), text).ok_or("it leads out of the server that the repository is on")?,
        false => text.to_owned(),
    };
    let url: RepoUrl = resolved.parse().map_err(|why: protocol::source::InvalidSource| why.to_string())?;
    if url.is_local() && !parent.is_local() {
        return Err("a repository on a server may not name a folder of the machine that builds it".to_owned());
    }
    let plain = |url: &RepoUrl| url.reveal().starts_with("git://");
    if plain(&url) && !plain(parent) {
        return Err("git:// does not say who answers; write https:// or ssh://".to_owned());
    }
    Ok(with_credentials(parent, &url).unwrap_or(url))
}

/// `text`, counted from the repository at `base`; none when it climbs above the root of its server.
fn relative(base: &str, mut text: &str) -> Option<String> {
    let root = match base.find("://") {
        Some(scheme) => base[scheme + 3..].find('/').map_or(base.len(), |end| scheme + 3 + end + 1),
        None if base.starts_with('/') => 1,
        None => base.find(':').map_or(0, |end| end + 1 + usize::from(base[end + 1..].starts_with('/'))),
    };
    let (root, path) = base.split_at(root);
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
    loop {
        text = text.trim_start_matches('/');
        if let Some(rest) = text.strip_prefix("../") {
            parts.pop()?;
            text = rest;
        } else if let Some(rest) = text.strip_prefix("./") {
            text = rest;
        } else {
            break;
        }
    }
    parts.extend(text.split('/').filter(|part| !part.is_empty()));
    // Above its beginning a path could go on at another place than the one that was looked at.
    let climbs = parts.contains(&"..");
    let between = if root.ends_with(['/', ':']) { "" } else { "/" };
    (!climbs).then(|| format!("{root}{between}{}", parts.join("/")))
}

/// The same URL with user and password of `parent`'s, when both are on one web server and it has none of its own.
fn with_credentials(parent: &RepoUrl, url: &RepoUrl) -> Option<RepoUrl> {
    let (from, mut to) = (Url::parse(parent.reveal()).ok()?, Url::parse(url.reveal()).ok()?);
    let web = matches!(from.scheme(), "http" | "https");
    let own = !to.username().is_empty() || to.password().is_some();
    if !web || own || from.origin() != to.origin() {
        return None;
    }
    to.set_username(from.username()).ok()?;
    to.set_password(from.password()).ok()?;
    String::from(to).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, path: &str, url: &str) -> Section {
        Section { name: name.to_owned(), path: Some(path.to_owned()), url: Some(url.to_owned()) }
    }

    #[test]
    fn what_git_writes_and_what_people_write() {
        let lib = || vec![section("lib", "deps/lib", "../lib.git")];
        for (text, expect) in [
            ("", vec![]),
            ("# nothing\n; here\n", vec![]),
            ("[submodule \"lib\"]\n\tpath = deps/lib\n\turl = ../lib.git\n", lib()),
            ("\u{feff}[submodule \"lib\"]\r\n\tpath = deps/lib\r\n\turl = ../lib.git\r\n", lib()),
            ("[SubModule \"lib\"] Path=deps/lib # where\nURL\t=\t../lib.git ; from\nshallow\n", lib()),
            ("[submodule \"lib\"]\npath = \"deps/lib\"\nurl = ..\\\n/lib.git", lib()),
            (
                "[submodule \"lib\"]\npath = x\n[other \"lib\"]\nurl = y\n[submodule \"lib\"]\npath=deps/lib\nurl=../lib.git",
                lib(),
            ),
            ("[submodule \"a \\\"b\\\\\"]\npath = \" a \"\nurl = x y", vec![section("a \"b\\", " a ", "x y")]),
            ("[include]\npath = /etc/passwd\n", vec![]),
            (
                "[submodule \"lib\"]\npath\nurl=x\n",
                vec![Section { name: "lib".into(), path: None, url: Some("x".into()) }],
            ),
        ] {
            assert_eq!(parse(text), Ok(expect), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_submodules() {
        for (text, expect) in [
            ("[submodule \"lib\"\n", "line 2: a section's name does not end with ]"),
            ("[submodule \"li\nb\"]", "line 2: a section's name goes over the end of its line"),
            ("[submodule", "line 1: a section does not end"),
            ("[submodule \"x\\", "line 1: a section's name goes over the end of its line"),
            ("\n= x", "line 2: neither a section nor a setting begins here"),
            ("path x", "line 1: a setting has no ="),
            ("path = \"x", "line 1: quotes do not end on their line"),
            ("path = \"x\ny\"", "line 2: quotes do not end on their line"),
            ("path = \\x", "line 1: a \\ is followed by what git does not know"),
            ("path = x\\", "line 1: a \\ is followed by what git does not know"),
        ] {
            assert_eq!(parse(text), Err(expect.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn no_bytes_stop_the_reader() {
        // Every text of these pieces up to a length: it ends, and without a panic.
        let pieces = ["[", "]", "submodule", " \"a\"", "path", "=", "\\", "\"", "\n", "#", "é", "\u{feff}"];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            let longer = texts.iter().flat_map(|text| pieces.map(|piece| format!("{text}{piece}")));
            texts = longer.collect();
            for text in &texts {
                parse(text).ok();
            }
        }
        assert_eq!(texts.len(), pieces.len().pow(4));
    }

    #[test]
    fn where_a_submodule_comes_from() {
        for (parent, text, expect) in [
            ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
            ("https://h/a/b.git/", "../c", "https://h/a/c"),
            ("https://h/a/b", "./c", "https://h/a/b/c"),
            ("https://h", "./c", "https://h/c"),
            ("https://h/a/b", "../../x/y", "https://h/x/y"),
            ("https://h/a/b", "./.././/../x", "https://h/x"),
            ("https://me:pw@h/a/b", "../c", "https://me:pw@h/a/c"),
            ("https://me:pw@h/a/b", "https://h/x", "https://me:pw@h/x"),
            ("https://t0ken@h:8443/a/b", "https://h:8443/x", "https://t0ken@h:8443/x"),
            ("https://me:pw@h/a/b", "https://other/x", "https://other/x"),
            ("https://me:pw@h/a/b", "http://h/x", "http://h/x"),
            ("https://me:pw@h/a/b", "https://h:444/x", "https://h:444/x"),
            ("https://me:pw@h/a/b", "https://you:own@h/x", "https://you:own@h/x"),
            ("ssh://git@h:22/a/b", "../c", "ssh://git@h:22/a/c"),
            ("ssh://git:pw@h/a/b", "ssh://git@h/c", "ssh://git@h/c"),
            ("git@h:a/b.git", "../c.git", "git@h:a/c.git"),
            ("git@h:a/b.git", "../../c", "git@h:c"),
            ("git@h:/srv/b", "../c", "git@h:/srv/c"),
            ("git://h/a/b", "../c", "git://h/a/c"),
            ("/srv/git/b", "../c", "/srv/git/c"),
            ("/srv/git/b", "/srv/x", "/srv/x"),
            ("file:///srv/git/b", "../c", "file:///srv/git/c"),
            ("/srv/git/b", "https://h/x", "https://h/x"),
        ] {
            let parent: RepoUrl = parent.parse().unwrap();
            let url = url_of(&parent, text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(url.reveal(), expect, "{text} of {parent}");
        }
    }

    #[test]
    fn where_nobody_goes() {
        for (parent, text, expect) in [
            ("https://h/a/b", "../../../x", "out of the server"),
            ("https://h/a/b", "../x/../../../y", "out of the server"),
            ("git@h:a", "../../x", "out of the server"),
            ("/srv", "../../etc", "out of the server"),
            ("https://h/a/b", "/etc", "may not name a folder"),
            ("https://h/a/b", "file:///etc", "may not name a folder"),
            ("git@h:a", "file:///etc", "may not name a folder"),
            ("https://h/a/b", "git://h/x", "git:// does not say who answers"),
            ("/srv/b", "git://h/x", "git:// does not say who answers"),
            ("https://h/a/b", "ext::sh -c id", "control character or white space"),
            ("https://h/a/b", "ext::id", "is not a way to a repository"),
            ("https://h/a/b", "fd::17/x", "is not a way to a repository"),
            ("https://h/a/b", "-oProxyCommand=id", "begins with '-'"),
            ("https://h/a/b", "ssh://-oProxyCommand=id/x", "is not a way to a repository"),
            ("https://h/a/b", "--upload-pack=id", "begins with '-'"),
            ("https://h/a/b", "https://h/a\nb", "control character"),
            ("https://h/a/b", "../c%0ahost=evil", "control character"),
            ("https://h/a/b", "../c\rx", "control character"),
            ("https://h/a/b", "c", "relative path"),
            ("https://h/a/b", "..", "relative path"),
            ("https://h/a/b", "", "empty"),
            ("https://h/a/b", "ftp://h/x", "is not a way to a repository"),
        ] {
            let parent: RepoUrl = parent.parse().unwrap();
            let why = url_of(&parent, text).expect_err(text);
            assert!(why.contains(expect), "{text:?}: {why}");
        }
    }
}
