//! How large a glob may be: what it is matched by takes memory by its length, and stack by its depth.

/// The longest glob, in bytes.
const LONGEST: usize = 1000;

/// The deepest that braces may stand within each other.
const DEEPEST: usize = 8;

/// Why a glob is too large to be matched by, and what to write instead; nothing when it is not.
pub(crate) fn too_large(glob: &str) -> Option<(String, &'static str)> {
    if glob.len() > LONGEST {
        let message = format!("this glob is {} bytes long; it may have {LONGEST}", glob.len());
        return Some((message, "write several shorter ones, or say what they have in common, as in `docs/**`"));
    }
    let (mut deepest, mut depth) = (0_usize, 0_usize);
    for letter in glob.bytes() {
        match letter {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    (deepest > DEEPEST).then(|| {
        let message = format!("braces stand {deepest} deep within each other in this glob; it may be {DEEPEST}");
        (message, "write several globs, one for each of what they stand for")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_are_told() {
        let nested = |depth: usize| format!("{}a{}", "{".repeat(depth), "}".repeat(depth));
        for glob in ["docs/**", "{a,b}/{c,d}", &"{a}".repeat(300), &"?".repeat(1000), &nested(8), "}}{"] {
            assert_eq!(too_large(glob), None, "{glob}");
        }
        for (glob, expect) in
            [("?".repeat(1001), "1001 bytes long; it may have 1000"), (nested(9), "braces stand 9 deep")]
        {
            assert!(too_large(&glob).is_some_and(|(message, _)| message.contains(expect)), "{glob}");
        }
    }
}
