//! Lines as readers see them, and where they are.

use protocol::JobId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::extent::{Extent, LONGEST};
use super::index::{LineIndex, Look, MOST_COMMANDS};
use super::line::render;
use super::search::{Found, Ground};
use super::style::{Style, rgb};
use super::*;
use crate::store::{LogFiles, LogPlace, Piece};

fn html(text: &str) -> String {
    render(text.as_bytes(), Style::default(), Form::Html)
}

#[test]
fn lines_as_a_terminal_shows_them() {
    for (text, expect) in [
        ("plain", "plain"),
        ("", ""),
        ("a\tb", "a\tb"),
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#39;"),
        // Colours.
        ("\x1b[31mred\x1b[0m", r#"<span class="f1">red</span>"#),
        ("\x1b[1;4;92mx\x1b[22my", r#"<span class="f10 bo un">x</span><span class="f10 un">y</span>"#),
        ("\x1b[41mx\x1b[49my", r#"<span class="b1">x</span>y"#),
        ("\x1b[38;5;208mx", r#"<span class="f208">x</span>"#),
        ("\x1b[38:5:208mx", r#"<span class="f208">x</span>"#),
        ("\x1b[38;2;255;0;0mx", r#"<span class="f196">x</span>"#),
        ("\x1b[38:2::255:0:0mx", r#"<span class="f196">x</span>"#),
        ("\x1b[38:2:255:0:0mx", r#"<span class="f196">x</span>"#),
        ("\x1b[48;2;8;8;8;3mx", r#"<span class="b232 it">x</span>"#),
        ("\x1b[38;5;999mx", "x"),
        ("\x1b[38mx\x1b[38;2mx\x1b[38;9;1mx", r#"x<span class="f16">x</span><span class="f16 bo">x</span>"#),
        ("\x1b[7mx", r#"<span class="fi bi">x</span>"#),
        ("\x1b[7;31;44mx", r#"<span class="f4 b1">x</span>"#),
        ("\x1b[2;9mx\x1b[29;22my", r#"<span class="di st">x</span>y"#),
        ("\x1b[4:3mx\x1b[4:0my", r#"<span class="un">x</span>y"#),
        ("\x1b[mx\x1b[;mx", "xx"),
        ("\x1b[>4;1mx\x1b[?1mx", "xx"),
        // What is written over.
        (" 10%\r 50%\r100%", "100%"),
        ("done\r", "done"),
        ("long text\rx", "xong text"),
        ("long text\r\x1b[Kx", "x"),
        ("abc\x1b[1Dx", "abx"),
        ("abc\x08\x08x", "axc"),
        ("ab\x1b[2Kc", "  c"),
        ("abc\x1b[2G\x1b[1Kd", " dc"),
        ("a\x1b[3Cb", "a   b"),
        ("\x1b[5Gx\x1b[99999Gy", &format!("    x{}y", " ".repeat(995))),
        // Links.
        (
            "\x1b]8;;https://e.org/?a=1&b='\x1b\\here\x1b]8;;\x1b\\!",
            r#"<a href="https://e.org/?a=1&amp;b=%27" rel="noopener noreferrer nofollow" target="_blank">here</a>!"#,
        ),
        (
            "\x1b]8;id=1;http://e.org/a;b\x07\x1b[1mx\x07",
            r#"<a href="http://e.org/a;b" rel="noopener noreferrer nofollow" target="_blank"><span class="bo">x</span></a>"#,
        ),
        ("\x1b]8;;javascript:alert(1)\x1b\\x", "x"),
        ("\x1b]8;;file:///etc/passwd\x1b\\x", "x"),
        ("\x1b]8;;nonsense\x07x", "x"),
        // All else is left out, and what cannot be shown is said to be there.
        ("a\x1b[2Jb\x1b[10;10Hc\x1b[?25ld", "abcd"),
        ("a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", "abc"),
        ("a\x1bPq#0\x1b\\b\x1b(Bc\x0fd", "abcd"),
        ("a\x1b]never ends", "a"),
        ("a\x00b\x0bc\u{9b}2Jd\u{202e}e", "a\u{fffd}b\u{fffd}c\u{fffd}2Jd\u{fffd}e"),
        ("cut \x1b[3", "cut "),
    ] {
        assert_eq!(html(text), expect, "{text:?}");
    }
    assert_eq!(render(b"\xffa\xc3", Style::default(), Form::Html), "\u{fffd}a\u{fffd}");
    assert_eq!(render(b"\x1b[31m<red>\r<", Style::default(), Form::Text), "<red>");
}

/// Takes our spans and links out, and says what is left.
fn without_ours(mut html: &str) -> String {
    let mut rest = String::new();
    let mut open = Vec::new();
    while let Some(at) = html.find('<') {
        rest.push_str(&html[..at]);
        let end = html[at..].find('>').unwrap_or_else(|| panic!("a tag without an end: {html}"));
        let tag = &html[at + 1..at + end];
        html = &html[at + end + 1..];
        let attribute = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed.to_owned()));
        } else if let Some(classes) = tag.strip_prefix("span class=\"").and_then(|tag| tag.strip_suffix('"')) {
            assert!(attribute(classes), "{tag}");
            open.push("span".to_owned());
        } else {
            let address = tag
                .strip_prefix("a href=\"")
                .and_then(|tag| tag.strip_suffix("\" rel=\"noopener noreferrer nofollow\" target=\"_blank\""));
            let address = address.unwrap_or_else(|| panic!("a tag that is not ours: {tag}"));
            assert!(!address.contains(['"', '\'', '<']), "{address}");
            assert!(address.starts_with("http://") || address.starts_with("https://"), "{address}");
            open.push("a".to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    rest.push_str(html);
    rest
}

#[test]
fn nothing_becomes_markup_whatever_comes() {
    let parts: [&[u8]; 26] = [
        b"<script>alert(1)</script>",
        b"\"",
        b"'",
        b"&",
        b"<",
        b">",
        b"\x1b",
        b"\x1b[",
        b"\x1b]8;;",
        b"\x1b\\",
        b"\x07",
        b"https://e.org/",
        b"javascript:",
        b"<svg onload=x>",
        b"\" onclick=\"x",
        b";",
        b"1",
        b"38;5;",
        b"m",
        b"K",
        b"\r",
        b"\x08",
        b"\xff\xc3",
        b"\xe2\x80\xae",
        b"\x1bP",
        b"text",
    ];
    let mut chance = StdRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..chance.random_range(1..24) {
            if chance.random_bool(0.1) {
                bytes.push(chance.random());
            } else {
                bytes.extend_from_slice(parts[chance.random_range(0..parts.len())]);
            }
        }
        let text = without_ours(&render(&bytes, Style::default(), Form::Html));
        assert!(!text.contains(['<', '>', '"', '\'']), "{bytes:?}: {text}");
        assert!(
            !text.chars().any(|letter| letter.is_control() && letter != '\t' && letter != '\n'),
            "{bytes:?}: {text:?}"
        );
    }
}

#[test]
fn the_stylesheet_has_the_colours_of_the_palette() {
    let sheet = include_str!("../../assets/log-palette.css");
    for number in 16..=255 {
        let [red, green, blue] = rgb(number).unwrap();
        let colour = format!("#{red:02x}{green:02x}{blue:02x}");
        let rule = format!(".f{number} {{ color: {colour}; }} .b{number} {{ background-color: {colour}; }}\n");
        assert!(sheet.contains(&rule), "{rule}");
    }
    assert_eq!((rgb(15), rgb(16), rgb(255)), (None, Some([0; 3]), Some([238; 3])));
}

/// A log of a test's own.
struct Log {
    _folder: tempfile::TempDir,
    files: LogFiles,
    place: LogPlace,
    bytes: u64,
}

impl Log {
    fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::new(folder.path().join("logs"));
        let place = LogPlace { job: JobId::fresh(), attempt: 1, log: "test".parse().unwrap() };
        let mut log = Self { _folder: folder, files, place, bytes: 0 };
        log.grow(bytes);
        log
    }

    fn grow(&mut self, bytes: &[u8]) {
        let piece = Piece { offset: self.bytes, at_ms: 1, bytes: bytes.to_vec().into() };
        self.bytes = self.files.append(&[(self.place.clone(), self.bytes, vec![piece])]).unwrap().remove(0).unwrap();
    }

    fn indexed(&self, stride: u64, most: usize, piece: usize) -> LineIndex {
        let mut index = LineIndex::with(stride, most);
        let bytes = self.files.read(&self.place, 0, u64::MAX).unwrap();
        bytes.chunks(piece).for_each(|piece| index.add(piece));
        index
    }

    fn lines(&self, index: &LineIndex, from: u64, count: u64) -> Vec<(u64, String)> {
        let lines = Extent::of(index, self.place.clone(), from, count).read(&self.files).unwrap();
        lines.iter().map(|line| (line.number, line.shown(Form::Text))).collect()
    }

    fn hits(&self, from: u64, text: &str, how: Asked, most: usize) -> (Vec<u64>, Option<u64>) {
        let index = self.indexed(256, 1000, 999);
        let ground = Ground::of(&index, self.place.clone(), from);
        let found = search(&self.files, &ground, &Wanted::new(text, how).unwrap(), most, &|| false).unwrap();
        (found.hits.iter().map(|hit| hit.line).collect(), found.next)
    }

    /// All that there are, in as many searches as that takes: one on a busy machine pauses sooner.
    fn all_hits(&self, text: &str, how: Asked) -> (Vec<u64>, usize) {
        let (mut from, mut hits, mut searches) = (1, Vec::new(), 0);
        loop {
            let (found, next) = self.hits(from, text, how, 9);
            hits.extend(found);
            searches += 1;
            match next {
                Some(next) => {
                    assert!(next > from, "{next}");
                    from = next;
                }
                None => return (hits, searches),
            }
        }
    }
}

/// Whatever the bounds of the index and however the log came, the lines are those of the text.
#[test]
fn every_line_is_found_by_its_number() {
    let mut chance = StdRng::seed_from_u64(3);
    for round in 0..40 {
        let mut text = String::new();
        for _ in 0..chance.random_range(0..300) {
            let length =
                if chance.random_bool(0.05) { chance.random_range(0..3000) } else { chance.random_range(0..60) };
            text.extend((0..length).map(|_| char::from(chance.random_range(b'a'..=b'z'))));
            text.push('\n');
        }
        if chance.random_bool(0.5) {
            text.push_str("open");
        }
        let log = Log::of(text.as_bytes());
        let expect: Vec<(u64, String)> = (1..).zip(text.lines().map(str::to_owned)).collect();
        let index = log.indexed(chance.random_range(1..2000), chance.random_range(2..50), chance.random_range(1..5000));
        assert_eq!((index.total(), index.is_open()), (expect.len() as u64, text.ends_with("open")), "round {round}");
        assert_eq!(log.lines(&index, 1, u64::MAX), expect, "round {round}");
        for _ in 0..20 {
            let from = chance.random_range(0..320_u64);
            let count = chance.random_range(0..40_u64);
            let part: Vec<_> = expect.iter().filter(|(n, _)| (from.max(1)..from.max(1) + count).contains(n)).collect();
            assert_eq!(
                log.lines(&index, from, count).iter().collect::<Vec<_>>(),
                part,
                "round {round}: {from} {count}"
            );
        }
    }
}

#[test]
fn a_colour_that_stays_open_goes_on_in_the_next_line_from_wherever_one_reads() {
    let mut text = String::from("plain\n\x1b[31mred begins\n");
    text.extend((0..100).map(|number| format!("still red {number}\n")));
    text.push_str("\x1b]0;odd \x1b[32m\nodd was cut \x1b[0m\nplain\n");
    let log = Log::of(text.as_bytes());
    for stride in [1, 100, 1 << 20] {
        let index = log.indexed(stride, 1000, 7);
        let at = |line| Extent::of(&index, log.place.clone(), line, 1).read(&log.files).unwrap()[0].shown(Form::Html);
        assert_eq!(at(1), "plain");
        assert_eq!(at(60), r#"<span class="f1">still red 57</span>"#);
        assert_eq!(at(105), "plain");
    }
    // However it comes in pieces, the look is the same.
    let whole = {
        let mut look = Look::at(Style::default());
        look.add(b"\x1b[1;31mx\x1b]8;;http://x\x1b\\\x1b[4mlink\n\x1b[7m");
        look.style()
    };
    for piece in 1..9 {
        let mut look = Look::at(Style::default());
        b"\x1b[1;31mx\x1b]8;;http://x\x1b\\\x1b[4mlink\n\x1b[7m".chunks(piece).for_each(|piece| look.add(piece));
        assert_eq!(look.style(), whole);
    }
    assert_ne!(whole, Style::default());
}

#[test]
fn long_lines_are_cut_and_say_how_much_is_left_out() {
    let long = "x".repeat(1 << 20);
    let bar: String = (0..100_000).map(|number| format!("{number} of 99999\r")).collect();
    let log = Log::of(format!("a\n{long}\nb\n{bar}\nc\n{long}").as_bytes());
    for (stride, most) in [(64 << 10, 1000), (1, 1000), (1 << 30, 1000), (1000, 2)] {
        let index = log.indexed(stride, most, 5000);
        let mut lines: Vec<Line> = Vec::new();
        while (lines.len() as u64) < index.total() {
            // A page ends where lines are long; the next goes on.
            let more = Extent::of(&index, log.place.clone(), lines.len() as u64 + 1, 10).read(&log.files).unwrap();
            assert!(!more.is_empty());
            lines.extend(more);
        }
        let shown: Vec<(u64, usize, u64, bool)> =
            lines.iter().map(|line| (line.number, line.shown(Form::Text).len(), line.left_out, line.open)).collect();
        let (kept, left_out) = (LONGEST as usize, (1 << 20) - LONGEST);
        assert_eq!(shown[..3], [(1, 1, 0, false), (2, kept, left_out, false), (3, 1, 0, false)]);
        assert_eq!(lines[3].shown(Form::Text), "99999 of 99999");
        assert_eq!(shown[4..], [(5, 1, 0, false), (6, kept, left_out, true)]);
    }
}

#[test]
fn what_a_page_gets_is_bounded() {
    let line = "y".repeat(10_000);
    let log = Log::of(format!("{line}\n").repeat(500).as_bytes());
    let index = log.indexed(64 << 10, 1000, 1 << 20);
    let lines = log.lines(&index, 100, 400);
    assert!(lines.len() > 100 && lines.len() < 110, "{}", lines.len());
    assert_eq!(log.lines(&index, 100 + lines.len() as u64, 1)[0].0, 100 + lines.len() as u64);
}

#[test]
fn commands_are_known_as_far_as_they_are_kept() {
    let text = "$ one\nout $ no\n$no\n$ two …\n\n$";
    let mut log = Log::of(text.as_bytes());
    for piece in 1..10 {
        let index = log.indexed(10, 100, piece);
        assert_eq!(index.commands(), [(1, 0), (4, 19)]);
    }
    log.grow(b" three\n");
    assert_eq!(log.indexed(10, 100, 3).commands().last(), Some(&(6, 30)));
    assert_eq!(command(&log.files, &log.place, 19).unwrap(), "two …");
    assert_eq!(command(&log.files, &log.place, 30).unwrap(), "three");
    let many = Log::of("$ x\n".repeat(MOST_COMMANDS + 5).as_bytes());
    assert_eq!(many.indexed(100, 100, 1000).commands().len(), MOST_COMMANDS);
}

#[tokio::test]
async fn an_index_grows_with_its_log_and_survives_its_cut() {
    let mut log = Log::of(b"one\ntwo\nthr");
    let indexes = Indexes::default();
    let total = async |log: &Log| {
        let known = indexes.known(&log.files, &log.place, log.bytes).await.unwrap();
        (known.total, known.bytes)
    };
    assert_eq!(total(&log).await, (3, 11));
    log.grow(b"ee\nfour\n");
    assert_eq!(total(&log).await, (4, 19));
    // Who asks for less than is known gets what is there.
    log.bytes = 11;
    assert_eq!(total(&log).await, (4, 19));
    log.grow(b"!\n");
    assert_eq!(total(&log).await, (3, 13));
    let (_, extent) = indexes.extent(&log.files, &log.place, log.bytes, (-2, 9)).await.unwrap();
    let lines = extent.read(&log.files).unwrap();
    assert_eq!(lines.iter().map(|line| line.shown(Form::Text)).collect::<Vec<_>>(), ["two", "thr!"]);
    // A log of which nothing came, and more than are kept.
    for _ in 0..100 {
        let place = LogPlace { job: JobId::fresh(), ..log.place.clone() };
        assert_eq!(indexes.known(&log.files, &place, 0).await.unwrap().total, 0);
    }
}

const TEXT: Asked = Asked { regex: false, case: false };
const EXPRESSION: Asked = Asked { regex: true, case: true };

#[test]
fn what_is_looked_for_is_found_in_what_a_reader_sees() {
    let text = "error one\n\x1b[1merr\x1b[0mor two\nError three\n 10%\rerror\x1b[K\nerror written over\rok\x1b[K\nx\r\nnone\nerr";
    let log = Log::of(text.as_bytes());
    assert_eq!(log.hits(1, "error", TEXT, 9), (vec![1, 2, 3, 4], None));
    assert_eq!(log.hits(1, "error", Asked { case: true, ..TEXT }, 9), (vec![1, 2, 4], None));
    assert_eq!(log.hits(3, "error", TEXT, 9), (vec![3, 4], None));
    assert_eq!(log.hits(1, "error", TEXT, 2), (vec![1, 2], Some(3)));
    assert_eq!(log.hits(1, "^err$", EXPRESSION, 9), (vec![8], None));
    assert_eq!(log.hits(1, "^x$", EXPRESSION, 9), (vec![6], None));
    assert_eq!(log.hits(1, "e.r.r", TEXT, 9), (vec![], None));
    assert_eq!(log.hits(99, "error", TEXT, 9), (vec![], None));
    // Nothing is found across lines, nor hidden by what would be.
    let log = Log::of(b"ab\ncd\nb c d\n\nq");
    assert_eq!(log.hits(1, r"b\s+c", EXPRESSION, 9), (vec![3], None));
    assert_eq!(log.hits(1, r"\w*\s*\w*", EXPRESSION, 9), (vec![1, 2, 3, 4, 5], None));
    let index = log.indexed(1, 99, 99);
    let (ground, wanted) = (Ground::of(&index, log.place.clone(), 1), Wanted::new(" c", TEXT).unwrap());
    let found = search(&log.files, &ground, &wanted, 1, &|| false);
    let hit = Hit { line: 3, before: "b".into(), found: " c".into(), after: " d".into() };
    assert_eq!(found.unwrap(), Found { hits: vec![hit], next: Some(4) });
}

#[test]
fn a_long_log_is_looked_through_piece_by_piece() {
    let mut text = String::new();
    for number in 0..300_000 {
        text.push_str(&format!("line {number}\n"));
        if number == 1000 {
            text.push_str(&"z".repeat(3 << 20));
            text.push_str("\nneedle behind\n");
        }
    }
    let log = Log::of(text.as_bytes());
    assert_eq!(log.all_hits("needle", TEXT).0, [1003]);
    assert_eq!(log.all_hits("line 299999", TEXT).0, [300_002]);
    // Colours are more work: the search pauses, and goes on where it was.
    let log = Log::of(format!("{}needle", "\x1b[1mx\x1b[0m yyyyyyyyyyyyyyyyyy\n".repeat(400_000)).as_bytes());
    let (hits, searches) = log.all_hits("needle", TEXT);
    assert_eq!((hits, searches > 1), (vec![400_001], true));
}

/// However many lines there are, each is looked through once.
#[test]
fn an_expression_does_not_go_on_from_each_line_to_the_end() {
    let log = Log::of("\n".repeat(2 << 20).as_bytes());
    let began = std::time::Instant::now();
    let (hits, _) = log.all_hits(r"\n[\s\S]*", EXPRESSION);
    assert!(hits.is_empty(), "{hits:?}");
    assert!(began.elapsed().as_secs() < 60, "it took {:?}", began.elapsed());
    assert_eq!(log.hits(7, r"^[\s\S]*", EXPRESSION, 2), (vec![7, 8], Some(9)));
}

#[test]
fn a_search_ends_when_nobody_waits_for_it() {
    let log = Log::of("needle\n".repeat(1000).as_bytes());
    let index = log.indexed(256, 1000, 999);
    for (how, from, next) in [(EXPRESSION, 1, Some(2)), (EXPRESSION, 500, Some(501)), (TEXT, 1, None)] {
        let (ground, wanted) = (Ground::of(&index, log.place.clone(), from), Wanted::new("needle", how).unwrap());
        let found = search(&log.files, &ground, &wanted, 5000, &|| true).unwrap();
        assert_eq!(found.next, next, "{how:?} {from}");
    }
}

#[test]
fn what_cannot_be_looked_for_is_refused_in_a_sentence() {
    for (text, expect) in
        [("", "say what to look for"), ("(", "no regular expression"), ("x{9999}{9999}", "no regular expression")]
    {
        let error = Wanted::new(text, EXPRESSION).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    assert!(Wanted::new(&"x".repeat(1000), TEXT).unwrap_err().to_string().contains("1000 bytes"));
}
