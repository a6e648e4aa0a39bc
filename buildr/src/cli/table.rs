//! Tables: columns aligned, the last one cut where the terminal ends.

use console::{measure_text_width, truncate_str};

use super::look::{Look, Tone, clean};

/// The widest that a column before the last one gets, where a terminal's width is to be kept.
const WIDEST: usize = 28;

/// The narrowest that the last column is cut to; on a narrower terminal its lines are wrapped.
const NARROWEST: usize = 12;

/// One place of a table.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// A text in its tone, made harmless.
pub(super) fn cell(tone: Tone, text: &str) -> Cell {
    Cell { text: clean(text).into_owned(), tone }
}

/// Rows under a heading, as lines.
pub(super) fn table<const COLUMNS: usize>(
    heading: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [Cell; COLUMNS]>,
    look: &Look,
) -> String {
    let mut lines = vec![heading.map(|text| cell(Tone::Faint, text))];
    lines.extend(rows);
    if look.width.is_some() {
        for cell in lines.iter_mut().flat_map(|line| line.iter_mut().rev().skip(1)) {
            cell.text = truncate_str(&cell.text, WIDEST, "…").into_owned();
        }
    }
    let width = |column: usize| lines.iter().map(|line| measure_text_width(&line[column].text)).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let before: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
    let room = look.width.map(|width| width.saturating_sub(before).max(NARROWEST));
    lines.iter().map(|line| written(line, &widths, room, look)).collect()
}

fn written(line: &[Cell], widths: &[usize], room: Option<usize>, look: &Look) -> String {
    let mut text = String::new();
    let mut gap = 0;
    for (column, Cell { text: content, tone }) in line.iter().enumerate() {
        let last = column + 1 == line.len();
        let shown = match room {
            Some(room) if last => truncate_str(content, room, "…"),
            _ => content.into(),
        };
        if shown.is_empty() {
            gap += widths[column] + 2;
            continue;
        }
        // Spaces are written before a text and not after one: no line ends with them.
        text += &" ".repeat(gap);
        text += &look.paint(*tone, &shown);
        gap = widths[column] - measure_text_width(content).min(widths[column]) + 2;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(width: Option<usize>, expect: &str) {
        let rows = [["1", "passed", "short"], ["22", "", "a message that is long"], ["3", "überlang 漢字", ""]];
        let rows = rows.map(|row| row.map(|text| cell(Tone::Plain, text)));
        assert_eq!(table(["NO", "STATUS", "MESSAGE"], rows, &Look::plain(width)), expect);
    }

    #[test]
    fn columns_are_aligned_and_the_last_one_is_cut() {
        let whole = "\
NO  STATUS         MESSAGE
1   passed         short
22                 a message that is long
3   überlang 漢字
";
        check(None, whole);
        check(Some(120), whole);
        check(Some(34), &whole.replace("a message that is long", "a message that…"));
        check(Some(5), &whole.replace("a message that is long", "a message t…"));
    }

    #[test]
    fn a_wide_column_leaves_room_for_the_last() {
        let rows = [[cell(Tone::Plain, &"x".repeat(60)), cell(Tone::Plain, "end")]];
        let text = table(["A", "B"], rows, &Look::plain(Some(80)));
        assert_eq!(text.lines().nth(1).unwrap(), format!("{}…  end", "x".repeat(WIDEST - 1)));
    }
}
