//! Deliveries: where events go, and when they have arrived.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use relist::error::SourceErrorKind;
use relist::watch::Event;
use relist_feed::{Limits, Network, Token, Webhook};

use crate::failure::{Failure, file_hint};
use crate::shell;

/// How every line of ours begins.
const BEGINNING: &[u8] = b"{\"Sequence\":";
/// How many bytes at the end of a file are looked at for a line that was cut.
const TAIL: u64 = 1 << 20;

/// Where events go, standard output apart.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// To the end of a file; arrived when they are on the disk.
    File(File, PathBuf),
    /// To an address; arrived when it answers 2xx.
    Webhook(Box<Webhook>),
    /// To a command, one by one; arrived when it exits with 0.
    Command {
        /// What the shell runs.
        command: String,
        /// Where.
        directory: PathBuf,
        /// How long it may take for one event.
        limit: Duration,
    },
}

/// Why events did not arrive.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) reason: String,
    /// What to do about it.
    hint: &'static str,
    /// Whether it was the user who stopped it.
    pub(crate) stopped: bool,
}

impl From<Undelivered> for Failure {
    fn from(error: Undelivered) -> Self {
        if error.stopped {
            return Failure::stopped();
        }
        Failure::failed(error.reason, error.hint)
    }
}

const AGAIN: &str = "nothing is lost: the same command goes on at this event";

impl Delivery {
    /// A file that events are appended to, one a line.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let file = open(path).map_err(|e| Failure::file("cannot append to", path, &e))?;
        Ok(Delivery::File(file, path.to_owned()))
    }

    /// An address that events are posted to, each by itself.
    pub(crate) fn webhook(
        url: &str,
        secret: Option<&Token>,
        network: &Network,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let webhook = Webhook::new(url, secret, Limits::default(), network)?;
        let webhook = webhook.with_stop(Arc::clone(stop));
        Ok(Delivery::Webhook(Box::new(webhook)))
    }

    /// Delivers the events of one change, in order. After an error none of them counts.
    pub(crate) fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        match self {
            Delivery::File(file, path) => {
                let mut lines = String::new();
                for event in events {
                    lines.push_str(&event.to_json());
                    lines.push('\n');
                }
                let written = file.write_all(lines.as_bytes());
                written.and_then(|()| file.sync_data()).map_err(|e| {
                    let reason = format!("cannot append to {}: {e}", path.display());
                    let hint = file_hint(&e);
                    // A line may be cut: the next attempt begins behind the last whole one.
                    if let Ok(again) = open(path) {
                        *file = again;
                    }
                    Undelivered {
                        reason,
                        hint,
                        stopped: false,
                    }
                })
            }
            Delivery::Webhook(webhook) => events.iter().try_for_each(|event| {
                let posted = webhook.post(event.to_json().as_bytes());
                posted.map_err(|error| Undelivered {
                    stopped: error.kind == SourceErrorKind::Stopped,
                    reason: error.to_string(),
                    hint: AGAIN,
                })
            }),
            Delivery::Command {
                command,
                directory,
                limit,
            } => events.iter().try_for_each(|event| {
                let variables = [
                    ("RELIST_SEQUENCE", event.sequence.to_string()),
                    ("RELIST_RULE", event.rule.clone()),
                ];
                let input = format!("{}\n", event.to_json());
                let input = input.as_bytes();
                let ran = shell::run(command, directory, &variables, input, Some(*limit));
                ran.map_err(|why| Undelivered {
                    reason: format!("event {} was not delivered: {why}", event.sequence),
                    hint: AGAIN,
                    stopped: false,
                })
            }),
        }
    }
}

/// Opens a file to append to. A line of ours that a crash cut is taken away: its event was not
/// counted as delivered, and comes again.
fn open(path: &Path) -> io::Result<File> {
    let new = !path.exists();
    let mut options = File::options();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // It holds what a licence covers.
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    if file.metadata()?.is_file() && length > 0 {
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        (&file).take(TAIL).read_to_end(&mut tail)?;
        let whole = tail
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let rest = tail.get(whole..).unwrap_or_default();
        let ours = rest.starts_with(BEGINNING) || BEGINNING.starts_with(rest);
        if !rest.is_empty() && ours && (whole > 0 || start == 0) {
            file.set_len(start + whole as u64)?;
        } else if !rest.is_empty() {
            file.write_all(b"\n")?;
        }
    }
    #[cfg(unix)]
    if new {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_is_taken_away_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        for (before, after) in [
            ("", ""),
            ("{\"Sequence\":1}\n", "{\"Sequence\":1}\n"),
            ("{\"Sequence\":1}\n{\"Sequence\":2", "{\"Sequence\":1}\n"),
            ("{\"Sequence\":1}\n{\"Se", "{\"Sequence\":1}\n"),
            ("{\"Seq", ""),
            ("somebody's own line", "somebody's own line\n"),
        ] {
            std::fs::write(&path, before).unwrap();
            drop(open(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before}");
        }
    }
}
