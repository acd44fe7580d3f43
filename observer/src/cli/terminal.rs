//! What all commands print alike: colour, columns, durations, sizes, safe text.

use std::io::{self, IsTerminal as _};

/// Colours of a terminal, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    colour: bool,
}

/// Colour of a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Nothing special.
    Plain,
    /// Less important.
    Dim,
    /// Good.
    Green,
    /// Look here.
    Yellow,
    /// Failed.
    Red,
}

/// Columns that grow with what they show, so that lines printed one by one still align.
#[derive(Debug, Default)]
pub(super) struct Columns {
    widths: Vec<usize>,
}

/// One cell of a line.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Colour,
    right: bool,
}

/// Widest column; longer text only moves its own line.
const WIDEST: usize = 40;

// === impl Style ===

impl Style {
    /// Colour on a terminal, unless `NO_COLOR` is set (no-color.org) or it is a dumb one.
    pub(super) fn of_stdout() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            colour: io::stdout().is_terminal() && !forbidden,
        }
    }

    /// No colour.
    #[cfg(test)]
    pub(super) const fn plain() -> Self {
        Self { colour: false }
    }

    /// Colour.
    #[cfg(test)]
    pub(super) const fn coloured() -> Self {
        Self { colour: true }
    }

    fn wrap(self, text: String, colour: Colour) -> String {
        let code = match colour {
            Colour::Plain => return text,
            Colour::Dim => 2,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text
        }
    }
}

// === impl Columns ===

impl Columns {
    /// One line.
    pub(super) fn line(&mut self, style: Style, cells: &[Cell]) -> String {
        self.measure(cells);
        let mut line = String::new();
        let last = cells.len().saturating_sub(1);
        for (index, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            let (text, width) = (&cell.text, *width);
            let padded = match (cell.right, index == last) {
                (true, _) => format!("{text:>width$}"),
                (false, false) => format!("{text:<width$}"),
                (false, true) => text.clone(),
            };
            line.push_str(&style.wrap(padded, cell.colour));
            if index != last {
                line.push_str("  ");
            }
        }
        line
    }

    /// Makes room for `cells`.
    pub(super) fn measure(&mut self, cells: &[Cell]) {
        self.widths.resize(self.widths.len().max(cells.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = cell.text.chars().count().min(WIDEST).max(*width);
        }
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn new(text: impl AsRef<str>, colour: Colour) -> Self {
        Self {
            text: plain(text.as_ref()),
            colour,
            right: false,
        }
    }

    /// For numbers.
    pub(super) fn right(text: impl AsRef<str>, colour: Colour) -> Self {
        Self {
            right: true,
            ..Self::new(text, colour)
        }
    }
}

/// `text` without control characters: what was sent over a network must not steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect()
}

/// Seconds with a fitting unit and three digits.
pub(super) fn duration(seconds: f64) -> String {
    for (scale, unit) in [(1e6, "us"), (1e3, "ms")] {
        let value = seconds * scale;
        if value < 999.5 {
            return format!("{}{unit}", digits(value));
        }
    }
    if seconds < 600.0 {
        return format!("{}s", digits(seconds));
    }
    format!("{:.0}m", seconds / 60.0)
}

/// Bytes with a fitting binary unit.
pub(super) fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_000.0 {
            return if unit == "B" {
                format!("{value:.0}{unit}")
            } else {
                digits(value) + unit
            };
        }
        value /= 1_024.0;
    }
    digits(value) + "TiB"
}

/// A count per second.
pub(super) fn rate(value: f64) -> String {
    if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Three digits.
fn digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Writing failed because nobody reads any more: the end, not an error.
pub(super) fn quiet(result: io::Result<()>) -> anyhow::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (seconds, expected) in [
            (0.0, "0.00us"),
            (0.000_012_34, "12.3us"),
            (0.000_999_6, "1.00ms"),
            (0.25, "250ms"),
            (1.5, "1.50s"),
            (59.96, "60.0s"),
            (900.0, "15m"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (size, expected) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (1_000.0, "0.98KiB"),
            (5e6, "4.77MiB"),
            (1e15, "909TiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
        assert_eq!(rate(0.3), "0.3");
        assert_eq!(rate(12_345.6), "12346");
    }

    #[test]
    fn columns_grow_and_stay() {
        let mut columns = Columns::default();
        let line = |columns: &mut Columns, first: &str, second: &str| {
            let cells = [
                Cell::new(first, Colour::Plain),
                Cell::right(second, Colour::Plain),
                Cell::new("end", Colour::Red),
            ];
            columns.line(Style::plain(), &cells)
        };
        assert_eq!(line(&mut columns, "a", "1"), "a  1  end");
        assert_eq!(line(&mut columns, "abc", "10"), "abc  10  end");
        assert_eq!(line(&mut columns, "a", "1"), "a     1  end");
        assert_eq!(
            line(&mut columns, &"x".repeat(60), "1"),
            format!("{}   1  end", "x".repeat(60))
        );
        assert_eq!(line(&mut columns, "a", "1").len(), 40 + 2 + 2 + 2 + 3);
    }

    #[test]
    fn colour_and_control_characters() {
        let cells = [Cell::new("\x1b[2Jbad\n", Colour::Red)];
        assert_eq!(Columns::default().line(Style::plain(), &cells), "?[2Jbad?");
        let coloured = Columns::default().line(Style::coloured(), &cells);
        assert_eq!(coloured, "\x1b[31m?[2Jbad?\x1b[0m");
    }
}
