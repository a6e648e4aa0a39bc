//! Where in a shell's script something stands: in which quotes, or in a here-document.

/// What is around a place in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// Nothing, or what replaces variables too.
    Open,
    /// Single quotes, between which the shell replaces nothing.
    Single,
    /// A here-document whose mark is in quotes, in which the shell replaces nothing.
    Literal,
}

/// Reads a script from its beginning.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What is open, the innermost last.
    open: Vec<Open>,
    /// Here-documents that begin on the next line.
    coming: Vec<Document>,
    /// The here-document that it is in.
    document: Option<Document>,
    /// The line so far.
    line: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Single,
    Double,
    /// `$(`, or a bracket in one.
    Command,
    Comment,
}

#[derive(Debug)]
struct Document {
    mark: String,
    literal: bool,
    /// `<<-`: tabs before the mark do not count.
    tabs: bool,
}

impl Reader {
    /// What is around the place that it has come to.
    pub(super) fn around(&self) -> Around {
        match (&self.document, self.open.last()) {
            (Some(document), _) if document.literal => Around::Literal,
            (None, Some(Open::Single)) => Around::Single,
            _ => Around::Open,
        }
    }

    /// Reads on over a part of the script.
    pub(super) fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let length = self.one(c, rest);
            let (read, behind) = rest.split_at(length);
            match read.rfind('\n') {
                Some(end) => read[end + 1..].clone_into(&mut self.line),
                None => self.line.push_str(read),
            }
            rest = behind;
        }
    }

    /// Reads what begins with this character; its length in bytes.
    fn one(&mut self, c: char, rest: &str) -> usize {
        if c == '\n' {
            self.end_of_line();
            return 1;
        }
        if self.document.is_some() {
            return c.len_utf8();
        }
        match (self.open.last(), c) {
            (Some(Open::Single), '\'') | (Some(Open::Double), '"') | (Some(Open::Command), ')') => {
                self.open.pop();
            }
            (Some(Open::Single | Open::Comment), _) => {}
            (_, '\\') => return 1 + rest[1..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8),
            (_, '$') if rest.starts_with("$(") => {
                self.open.push(Open::Command);
                return 2;
            }
            (Some(Open::Double), _) => {}
            (_, '\'') => self.open.push(Open::Single),
            (_, '"') => self.open.push(Open::Double),
            (Some(Open::Command), '(') => self.open.push(Open::Command),
            (_, '#') if self.line.is_empty() || self.line.ends_with([' ', '\t', ';', '(', '&', '|']) => {
                self.open.push(Open::Comment);
            }
            (_, '<') if rest.starts_with("<<<") => return 3,
            // In `$((`, it shifts a number.
            (_, '<') if rest.starts_with("<<") && !self.open.ends_with(&[Open::Command; 2]) => return self.mark(rest),
            _ => {}
        }
        c.len_utf8()
    }

    /// The mark of a here-document, from its `<<`; its length in bytes.
    fn mark(&mut self, rest: &str) -> usize {
        let after = rest[2..].strip_prefix('-').unwrap_or(&rest[2..]);
        let tabs = after.len() < rest.len() - 2;
        let word = after.trim_start_matches([' ', '\t']);
        let end = word
            .find(|c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '<' | '>' | ')'))
            .unwrap_or(word.len());
        let written = &word[..end];
        let mark: String = written.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
        if !mark.is_empty() {
            self.coming.push(Document { literal: mark.len() < written.len(), mark, tabs });
        }
        rest.len() - word.len() + end
    }

    fn end_of_line(&mut self) {
        if self.open.last() == Some(&Open::Comment) {
            self.open.pop();
        }
        if let Some(document) = &self.document {
            let line = if document.tabs { self.line.trim_start_matches('\t') } else { &self.line };
            if line != document.mark {
                return;
            }
            self.document = None;
        }
        if self.document.is_none()
            && !self.coming.is_empty()
            && !matches!(self.open.last(), Some(Open::Single | Open::Double))
        {
            self.document = Some(self.coming.remove(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_place() {
        let check = |script: &str, expect: &[Around]| {
            let mut reader = Reader::default();
            let mut parts = script.split('@');
            reader.read(parts.next().unwrap());
            let mut got = Vec::new();
            for part in parts {
                got.push(reader.around());
                reader.read("x");
                reader.read(part);
            }
            assert_eq!(got, expect, "{script}");
        };
        let (open, single, literal) = (Around::Open, Around::Single, Around::Literal);
        check("echo @ '@' \"@\" @", &[open, single, open, open]);
        check("echo \"it's @\" 'a\"@'", &[open, single]);
        check("echo it\\'s @ \\\\'@'", &[open, single]);
        check("# don't @\necho @ # isn't\n@", &[open, open, open]);
        check("echo a#'@' ${#x} @", &[single, open]);
        check("x=\"$(echo '@' (@) \"@\") @\" '@'", &[single, open, open, open, single]);
        check("cat <<EOF\nit's @\nEOF\necho '@'", &[open, single]);
        check("cat <<'EOF' > @\n@ EOF\n@\nEOF\n@", &[open, literal, literal, open]);
        check("cat <<-\"E\" <<\\F; echo '\n@'\n@\n\tE\n@\nF\n@", &[single, literal, literal, open]);
        check("cat <<<'@' @", &[single, open]);
        check("echo $((1 << 2)) @\n@", &[open, open]);
        check("cat <<'@", &[open]);
    }
}
