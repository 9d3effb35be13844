//! Tables for people: aligned columns, cut to the terminal's width.

use std::collections::VecDeque;
use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::style::{Paint, printable};

/// Rows looked at before the first is printed: the widths of the columns come from them.
const SAMPLE: usize = 1_000;
/// The narrowest that a column is cut to.
const NARROWEST: usize = 8;
/// The widest that a column may be, while others need room or not.
const WIDEST: usize = 60;
/// The widest, where whole columns give way first.
const READABLE: usize = 32;
const GAP: usize = 2;

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) title: String,
    /// Numbers stand at the right.
    pub(crate) right: bool,
    /// Left out where all its values are 0 or empty.
    pub(crate) if_any: bool,
}

/// What a table had no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Columns left out.
    pub(crate) columns: usize,
    /// Values shortened.
    pub(crate) values: u64,
}

/// Prints rows as they come, once the widths of the columns are known.
pub(crate) struct Table {
    columns: Vec<Column>,
    width: Option<usize>,
    /// Whether columns are left out before values are cut short.
    whole_values: bool,
    paint: Paint,
    waiting: VecDeque<Vec<String>>,
    /// The places of the columns that are shown.
    kept: Vec<usize>,
    /// The columns' widths; `None` while rows are sampled.
    widths: Option<Vec<usize>>,
    cut: Cut,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>, width: Option<usize>, paint: Paint) -> Self {
        Table {
            columns,
            width,
            whole_values: false,
            paint,
            waiting: VecDeque::new(),
            kept: Vec::new(),
            widths: None,
            cut: Cut::default(),
        }
    }

    /// Leaves columns out, from the last on, before values are cut short.
    pub(crate) fn whole_values(mut self) -> Self {
        self.whole_values = true;
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>, out: &mut dyn Write) -> io::Result<()> {
        let cells: Vec<String> = cells.into_iter().map(|c| printable(&c)).collect();
        let begun = self.widths.is_some();
        self.waiting.push_back(if begun {
            pick(&cells, &self.kept)
        } else {
            cells
        });
        if self.widths.is_none() && self.waiting.len() < SAMPLE {
            return Ok(());
        }
        self.print(out)
    }

    pub(crate) fn finish(mut self, out: &mut dyn Write) -> io::Result<Cut> {
        self.print(out)?;
        Ok(self.cut)
    }

    fn print(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let widths = if let Some(widths) = self.widths.take() {
            widths
        } else {
            self.leave_out_empty();
            let widths = self.measure();
            self.heading(&widths, out)?;
            widths
        };
        while let Some(row) = self.waiting.pop_front() {
            let line = self.line(&row, &widths);
            writeln!(out, "{}", line.trim_end())?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn heading(&mut self, widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let titles: Vec<String> = self.columns.iter().map(|c| c.title.clone()).collect();
        let cut = self.cut;
        let line = self.line(&titles, widths);
        self.cut = cut;
        writeln!(out, "{}", self.paint.heading(line.trim_end()))
    }

    fn line(&mut self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let own = cell.width();
            let (text, own) = if own > *width {
                self.cut.values += 1;
                shortened(cell, *width)
            } else {
                (cell.clone(), own)
            };
            let space = " ".repeat(width.saturating_sub(own));
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            if column.right {
                line.push_str(&space);
                line.push_str(&text);
            } else {
                line.push_str(&text);
                line.push_str(&space);
            }
        }
        line
    }

    /// From here on rows have the columns that say something.
    fn leave_out_empty(&mut self) {
        let says = |at: usize, row: &[String]| {
            row.get(at)
                .is_some_and(|cell| !matches!(cell.as_str(), "" | "0"))
        };
        self.kept = (0..)
            .zip(&self.columns)
            .filter_map(|(at, column)| {
                let wanted = !column.if_any || self.waiting.iter().any(|row| says(at, row));
                wanted.then_some(at)
            })
            .collect();
        self.columns = pick(&self.columns, &self.kept);
        for row in &mut self.waiting {
            *row = pick(row, &self.kept);
        }
    }

    /// The widths that the sample needs; cut, widest first, to what the terminal has.
    fn measure(&mut self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| c.title.width()).collect();
        for row in &self.waiting {
            for (cell, width) in row.iter().zip(&mut widths) {
                *width = (*width).max(cell.width());
            }
        }
        let Some(room) = self.width else {
            return widths;
        };
        let widest = if self.whole_values {
            READABLE
        } else {
            WIDEST.max(room / 2)
        };
        for width in &mut widths {
            *width = (*width).min(widest);
        }
        let needed = |widths: &[usize]| widths.iter().map(|w| w + GAP).sum::<usize>();
        while needed(&widths) > room + GAP {
            let wide = widths.iter_mut().filter(|w| **w > NARROWEST).max();
            if let Some(widest) = wide.filter(|_| !self.whole_values) {
                *widest -= 1;
            } else if widths.len() > 1 {
                widths.pop();
                self.cut.columns += 1;
            } else {
                break;
            }
        }
        widths
    }
}

fn pick<T: Clone>(from: &[T], places: &[usize]) -> Vec<T> {
    places
        .iter()
        .filter_map(|at| from.get(*at).cloned())
        .collect()
}

/// The start of a text, and a mark that it goes on; with its width.
fn shortened(text: &str, width: usize) -> (String, usize) {
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        let own = c.width().unwrap_or(0);
        if used + own > width {
            break;
        }
        used += own;
        out.push(c);
    }
    out.push('…');
    (out, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>, rows: &[[&str; 3]]) -> (String, Cut) {
        let column = |title: &str, right| Column {
            title: title.to_owned(),
            right,
            if_any: title == "CITY",
        };
        let columns = vec![
            column("KEY", true),
            column("NAME", false),
            column("CITY", false),
        ];
        let mut table = Table::new(columns, width, Paint(false));
        let mut out = Vec::new();
        for row in rows {
            let cells = row.iter().map(|c| (*c).to_owned()).collect();
            table.row(cells, &mut out).unwrap();
        }
        let cut = table.finish(&mut out).unwrap();
        (String::from_utf8(out).unwrap(), cut)
    }

    #[test]
    fn columns_are_aligned() {
        let (text, cut) = table(
            None,
            &[["1", "Ann", "Orem"], ["22", "", "Provo\u{1b}[2J\nx"]],
        );
        assert_eq!(
            text,
            "KEY  NAME  CITY\n  1  Ann   Orem\n 22        Provo\u{fffd}[2J x\n"
        );
        assert_eq!(cut, Cut::default());
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let long = "a".repeat(50);
        let (text, cut) = table(Some(30), &[["1", &long, "Orem"]]);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            format!("  1  {}…  Orem", "a".repeat(18))
        );
        assert_eq!(
            cut,
            Cut {
                columns: 0,
                values: 1
            }
        );
        let (text, cut) = table(Some(13), &[["1", &long, "Orem"]]);
        assert_eq!(text.lines().nth(1).unwrap(), "  1  aaaaaaa…");
        assert_eq!(
            cut,
            Cut {
                columns: 1,
                values: 1
            }
        );
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        let (text, _) = table(None, &[["1", "Ann", "0"], ["2", "Bo", ""]]);
        assert_eq!(text, "KEY  NAME\n  1  Ann\n  2  Bo\n");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(shortened("日本語", 5), ("日本…".to_owned(), 5));
        assert_eq!(shortened("日本語", 4), ("日…".to_owned(), 3));
    }
}
