//! The forms in which a secret is printed: as it is, line by line, and as programs encode it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Shorter values would mask half of every log. Who sets such a secret is told so where it is set.
pub const SHORTEST: usize = 4;

/// Lines of a secret that are shorter than this stand in any log.
const SHORTEST_LINE: usize = 8;

/// Where `openssl` and `base64` break their lines, in characters.
const WRAPPED_AT: [usize; 2] = [64, 76];

/// How many characters of base64 depend on the bytes that stand before the secret, by how many those are (modulo 3).
const UNSURE: [usize; 3] = [0, 2, 3];

/// Every form of a secret, none shorter than [`SHORTEST`].
pub(super) fn of(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::from([value.to_owned()]);
    let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
    forms.extend(lines.map(str::to_owned));
    for before in 0..UNSURE.len() {
        base64(value.as_bytes(), before, &mut forms);
    }
    let mut json = serde_json::Value::from(value).to_string();
    json.pop();
    forms.insert(json.split_off(1));
    for (hex, space) in [(HEX_UPPER, "%20"), (HEX_LOWER, "%20"), (HEX_UPPER, "+"), (HEX_LOWER, "+")] {
        forms.insert(percent(value, hex, space));
    }
    forms.into_iter().map(String::into_bytes).filter(|form| form.len() >= SHORTEST).collect()
}

/// What base64 makes of the value behind so many other bytes: all that does not depend on what stands around it, and
/// with the end that it has when nothing follows.
fn base64(value: &[u8], before: usize, forms: &mut BTreeSet<String>) {
    let bytes = [&[0; 2][..before], value].concat();
    let encoded = STANDARD_NO_PAD.encode(&bytes).split_off(UNSURE[before].min(bytes.len()));
    let partly = usize::from(bytes.len() % 3 != 0);
    let sure = encoded[..encoded.len().saturating_sub(partly)].to_owned();
    let padded = format!("{encoded}{}", "=".repeat((3 - bytes.len() % 3) % 3));
    let mut all = vec![sure, encoded.clone(), padded];
    if before == 0 {
        // Lines of base64 are ASCII, so they may be cut anywhere.
        let wrapped = WRAPPED_AT.iter().filter(|&&at| encoded.len() > at);
        let lines = wrapped.flat_map(|&at| encoded.as_bytes().chunks(at));
        let lines = lines.filter(|line| line.len() >= SHORTEST_LINE);
        all.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
    }
    for form in all {
        forms.insert(form.replace('+', "-").replace('/', "_"));
        forms.insert(form);
    }
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

fn percent(value: &str, hex: &[u8; 16], space: &str) -> String {
    let mut text = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        match byte {
            b' ' => text.push_str(space),
            b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => {
                let digits = [b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]];
                text.extend(digits.map(char::from));
            }
        }
    }
    text
}
