//! Progress bars: on standard error, and only when that is a terminal.

use std::time::Duration;

use relist::ingest::Progress;
use relist::store::RunReport;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Tells a closure how a run comes along, and the run what memory the process has used.
pub(crate) struct Measured<F> {
    pub(crate) advanced: F,
    pub(crate) peak_memory: fn() -> Option<u64>,
}

impl<F: FnMut(&RunReport)> Progress for Measured<F> {
    fn advanced(&mut self, report: &RunReport) {
        (self.advanced)(report);
    }

    fn peak_memory(&self) -> Option<u64> {
        (self.peak_memory)()
    }
}

/// A bar, or nothing where there is no terminal.
#[derive(Debug, Clone)]
pub(crate) struct Bar(ProgressBar);

const CHARACTERS: &str = "━━─";
const RECORDS_OF: &str = "{prefix:12} {bar:30} {human_pos}/{human_len} records {msg} {eta}";
const SOME_RECORDS: &str = "{prefix:12} {spinner} {human_pos} records {msg} {elapsed}";

/// How often a bar is drawn, in Hz: more would only cost time.
const RATE: u8 = 10;

impl Bar {
    fn new(visible: bool, total: Option<u64>, label: &str, template: &str) -> Self {
        if !visible {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(RATE));
        // The templates are ours; a wrong one leaves the default, which shows the same.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars(CHARACTERS));
        }
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }

    /// Records of an unknown or a known total.
    pub(crate) fn records(visible: bool, total: Option<u64>, label: &str) -> Self {
        let template = total.map_or(SOME_RECORDS, |_| RECORDS_OF);
        Bar::new(visible, total, label, template)
    }

    /// Bytes of files.
    pub(crate) fn bytes(visible: bool, total: Option<u64>, label: &str) -> Self {
        let template = match total {
            Some(_) => "{prefix:12} {bar:30} {decimal_bytes}/{decimal_total_bytes} {msg} {eta}",
            None => "{prefix:12} {spinner} {decimal_bytes} {msg} {elapsed}",
        };
        Bar::new(visible, total, label, template)
    }

    /// Files of a known total.
    pub(crate) fn files(visible: bool, total: u64, label: &str) -> Self {
        Bar::new(
            visible,
            Some(total),
            label,
            "{prefix:12} {bar:30} {human_pos}/{human_len} files {msg} {eta}",
        )
    }

    /// Steps of a known number.
    pub(crate) fn steps(visible: bool, total: u64, label: &str) -> Self {
        Bar::new(
            visible,
            Some(total),
            label,
            "{prefix:12} {bar:30} {pos}/{len} {msg}",
        )
    }

    /// Something whose end is not known.
    pub(crate) fn waiting(visible: bool, label: &str) -> Self {
        Bar::new(visible, None, label, "{prefix:12} {spinner} {elapsed}")
    }

    pub(crate) fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    /// The total of records, once it is known.
    pub(crate) fn total(&self, total: u64) {
        if self.0.length().is_none()
            && let Ok(style) = ProgressStyle::with_template(RECORDS_OF)
        {
            self.0.set_style(style.progress_chars(CHARACTERS));
        }
        self.0.set_length(total);
    }

    pub(crate) fn message(&self, text: String) {
        self.0.set_message(text);
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    /// An error leaves no half of a bar behind.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
