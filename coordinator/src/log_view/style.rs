//! How text looks: colours and the like, as a terminal's "select graphic rendition" sequences set them.

use std::fmt;

use anstyle_parse::{Params, Perform};

/// How text looks. Colours are numbers of the palette of 256; its first 16 are the reader's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    front: Option<u8>,
    back: Option<u8>,
    marks: u8,
}

const BOLD: u8 = 1;
const DIM: u8 = 1 << 1;
const ITALIC: u8 = 1 << 2;
const UNDERLINE: u8 = 1 << 3;
const INVERSE: u8 = 1 << 4;
const STRIKE: u8 = 1 << 5;

/// The classes of the marks, in the order of their bits; inverse is told by its colours.
const CLASSES: [(u8, &str); 5] = [(BOLD, "bo"), (DIM, "di"), (ITALIC, "it"), (UNDERLINE, "un"), (STRIKE, "st")];

impl Style {
    /// Whether it is how text looks when nobody said anything.
    pub(super) fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// The classes of a span that looks so, with a space between them: `f1` the first colour before, `b1` behind; `fi`
    /// and `bi` are the page's own two, swapped.
    pub(super) fn write_classes(self, out: &mut impl fmt::Write) -> fmt::Result {
        let mut gap = "";
        let inverse = self.has(INVERSE);
        let (front, back) = if inverse { (self.back, self.front) } else { (self.front, self.back) };
        for (letter, colour) in [('f', front), ('b', back)] {
            match colour {
                Some(number) => write!(out, "{gap}{letter}{number}")?,
                None if inverse => write!(out, "{gap}{letter}i")?,
                None => continue,
            }
            gap = " ";
        }
        for (mark, class) in CLASSES {
            if self.has(mark) {
                write!(out, "{gap}{class}")?;
                gap = " ";
            }
        }
        Ok(())
    }

    fn has(self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Does what a sequence's numbers say, one after the other. What is not known changes nothing.
    pub(super) fn apply(&mut self, params: &Params) {
        let mut groups = params.iter();
        while let Some(group) = groups.next() {
            let Some(&first) = group.first() else { continue };
            match first {
                38 | 48 | 58 => {
                    // With colons the colour stands in the same group, with semicolons in those that follow.
                    let colour = if group.len() > 1 {
                        colour_of(group[1], || match group.len() {
                            // 2 : the colour space : red : green : blue
                            6.. => [group[3], group[4], group[5]],
                            5 => [group[2], group[3], group[4]],
                            3 | 4 => [group[2], 0, 0],
                            _ => [0; 3],
                        })
                    } else {
                        let mut next = || groups.next().and_then(|group| group.first().copied()).unwrap_or(0);
                        match next() {
                            5 => colour_of(5, || [next(), 0, 0]),
                            2 => colour_of(2, || [next(), next(), next()]),
                            _ => None,
                        }
                    };
                    match first {
                        38 => self.front = colour.or(self.front),
                        48 => self.back = colour.or(self.back),
                        // The colour of the line below a text is the text's own here.
                        _ => {}
                    }
                }
                4 if group.get(1) == Some(&0) => self.marks &= !UNDERLINE,
                number => self.apply_one(number),
            }
        }
    }

    fn apply_one(&mut self, number: u16) {
        match number {
            0 => *self = Self::default(),
            1 => self.marks |= BOLD,
            2 => self.marks |= DIM,
            3 => self.marks |= ITALIC,
            4 | 21 => self.marks |= UNDERLINE,
            7 => self.marks |= INVERSE,
            9 => self.marks |= STRIKE,
            22 => self.marks &= !(BOLD | DIM),
            23 => self.marks &= !ITALIC,
            24 => self.marks &= !UNDERLINE,
            27 => self.marks &= !INVERSE,
            29 => self.marks &= !STRIKE,
            30..=37 => self.front = Some(small(number - 30)),
            39 => self.front = None,
            40..=47 => self.back = Some(small(number - 40)),
            49 => self.back = None,
            90..=97 => self.front = Some(small(number - 90 + 8)),
            100..=107 => self.back = Some(small(number - 100 + 8)),
            _ => {}
        }
    }
}

/// A colour by its kind: 5 one of the palette, 2 by red, green and blue.
fn colour_of(kind: u16, numbers: impl FnOnce() -> [u16; 3]) -> Option<u8> {
    match kind {
        5 => u8::try_from(numbers()[0]).ok(),
        2 => Some(nearest(numbers().map(small))),
        _ => None,
    }
}

fn small(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The six steps of each colour in the palette's cube.
const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The colour of the palette that is nearest to one by red, green and blue: of its cube, or of its greys.
fn nearest(wanted: [u8; 3]) -> u8 {
    let step = |value: u8| (0..6_u8).min_by_key(|step| STEPS[usize::from(*step)].abs_diff(value)).unwrap_or(0);
    let [red, green, blue] = wanted.map(step);
    let cube = 16 + 36 * red + 6 * green + blue;
    let mean = (u32::from(wanted[0]) + u32::from(wanted[1]) + u32::from(wanted[2])) / 3;
    let grey = 232 + u8::try_from(mean.saturating_sub(3) / 10).unwrap_or(23).min(23);
    let far = |number: u8| -> u32 {
        let of = rgb(number).unwrap_or_default();
        (0..3).map(|at| u32::from(of[at].abs_diff(wanted[at])).pow(2)).sum()
    };
    if far(grey) < far(cube) { grey } else { cube }
}

/// The red, green and blue of a colour of the palette; none for the first 16, which are the reader's.
pub(super) fn rgb(number: u8) -> Option<[u8; 3]> {
    match number {
        0..16 => None,
        16..232 => {
            let cube = number - 16;
            Some([cube / 36, cube / 6 % 6, cube % 6].map(|step| STEPS[usize::from(step)]))
        }
        232.. => Some([8 + 10 * (number - 232); 3]),
    }
}

/// Hears of a text nothing but what changes its look.
#[derive(Debug, Default)]
pub(super) struct Styler(pub(super) Style);

impl Perform for Styler {
    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if is_look(intermediates, ignore, action) {
            self.0.apply(params);
        }
    }
}

/// Whether a control sequence says how text looks.
pub(super) fn is_look(intermediates: &[u8], ignore: bool, action: u8) -> bool {
    action == b'm' && intermediates.is_empty() && !ignore
}
