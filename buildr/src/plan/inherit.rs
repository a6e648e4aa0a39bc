//! Which of the agent's variables reach a container.

use crate::manifest::is_inheritable;

/// Those of `names` that a plan's `inherit` passes on, in their order. Names that are the machine's (`PATH`, `HOME`
/// …), Docker's or buildr's own are never among them, whatever the patterns say, nor are those that are no
/// variable's name in a shell.
pub fn inherited<'n>(patterns: &[String], names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let asked = |name: &str| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()));
    names.into_iter().filter(|name| is_inheritable(name) && asked(name)).collect()
}

/// `*` stands for any text, `?` for one character. Takes at most pattern times text steps: of several stars only
/// the last is ever tried again.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&expected) if expected == b'?' || expected == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], names: &[&str], expect: &[&str]) {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        assert_eq!(inherited(&patterns, names.iter().copied()), expect, "{patterns:?}");
    }

    #[test]
    fn globs_over_names() {
        let names = ["LANG", "HTTP_PROXY", "HTTPS_PROXY", "LC_ALL", "A"];
        check(&[], &names, &[]);
        check(&["*"], &names, &names);
        check(&["HTTP*_PROXY", "?"], &names, &["HTTP_PROXY", "HTTPS_PROXY", "A"]);
        check(&["LANG"], &names, &["LANG"]);
        check(&["lang", "LAN", "LANG?", ""], &names, &[]);
        check(&["*_*"], &names, &["HTTP_PROXY", "HTTPS_PROXY", "LC_ALL"]);
        check(&["**L*"], &names, &["LANG", "LC_ALL"]);
    }

    #[test]
    fn what_is_never_passed_on() {
        let names = [
            "PATH",
            "HOME",
            "USER",
            "SHELL",
            "PWD",
            "HOSTNAME",
            "TMPDIR",
            "LD_PRELOAD",
            "DOCKER_HOST",
            "BUILDR_TOKEN",
            "CI",
            "BASH_FUNC_x%%",
            "a b",
            "",
            "OK",
        ];
        check(&["*"], &names, &["OK"]);
        check(&["PATH", "LD_*", "DOCKER_HOST", "BUILDR_?OKEN"], &names, &[]);
    }

    #[test]
    fn many_stars_take_no_time() {
        check(&[&"*A".repeat(500)], &[&"A".repeat(499)], &[]);
        let long = "A".repeat(5000);
        check(&[&format!("{}B", "A*".repeat(200))], &[&long], &[]);
    }
}
