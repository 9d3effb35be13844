//! Tables that a person reads and a Markdown document takes as they are.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

/// A table in Markdown, its columns aligned.
#[derive(Debug, Clone, Default)]
pub(super) struct Sheet {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    pub(super) fn new(titles: &[&str]) -> Self {
        Sheet {
            titles: titles.iter().map(|&t| t.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it: the first column at the left, all others at the right.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths: Vec<usize> = self.titles.iter().map(|t| t.width().max(3)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let line = |cells: &[String]| {
            let cells = widths.iter().zip(cells).enumerate();
            let cells = cells.map(|(at, (width, cell))| {
                let space = " ".repeat(width.saturating_sub(cell.width()));
                if at == 0 {
                    format!(" {cell}{space} |")
                } else {
                    format!(" {space}{cell} |")
                }
            });
            format!("|{}", cells.collect::<String>())
        };
        writeln!(out, "{}", line(&self.titles))?;
        let rules = widths.iter().enumerate().map(|(at, width)| {
            let dashes = "-".repeat(*width);
            if at == 0 {
                format!("-{dashes}-|")
            } else {
                format!("-{dashes}:|")
            }
        });
        writeln!(out, "|{}", rules.collect::<String>())?;
        for row in &self.rows {
            writeln!(out, "{}", line(row))?;
        }
        Ok(())
    }
}

/// The middle one of some figures, or the mean of the two in the middle.
pub(super) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    let upper = *figures.get(half)?;
    if figures.len() % 2 == 1 {
        return Some(upper);
    }
    figures
        .get(half - 1)
        .map(|lower| f64::midpoint(*lower, upper))
}

/// A count as a figure to divide.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of records and bytes are far below 2^53"
)]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

/// A figure without what is behind the point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of records, rounded for people"
)]
pub(super) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// Seconds in a unit that fits.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.001 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.1} us", seconds * 1e6)
    }
}

/// A ratio with three digits.
pub(super) fn ratio(ratio: f64) -> String {
    if ratio >= 100.0 {
        format!("{ratio:.0}x")
    } else if ratio >= 10.0 {
        format!("{ratio:.1}x")
    } else {
        format!("{ratio:.2}x")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut sheet = Sheet::new(&["query", "ms"]);
        sheet.row(vec!["get".to_owned(), "0.01".to_owned()]);
        let mut out = Vec::new();
        sheet.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "| query |   ms |\n|-------|-----:|\n| get   | 0.01 |\n"
        );
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn figures_have_a_unit_that_fits() {
        assert_eq!(seconds(2.0), "2.00 s");
        assert_eq!(seconds(0.0125), "12.50 ms");
        assert_eq!(seconds(0.000_009_4), "9.4 us");
        assert_eq!(ratio(2.345), "2.35x");
        assert_eq!(ratio(1_234.0), "1234x");
    }
}
