//! Failures: what went wrong, what to do about it, and the exit code. One place for all commands.

use std::fmt::Write as _;
use std::io::{self, Write};

use relist::error::{Error, QueryError, SourceError, SourceErrorKind};
use relist_export::ExportError;
use relist_feed::{ConfigError, TokenError};

use crate::style::{Paint, printable};

/// How a command ended, by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: done; also when the reader of the output went away.
    Ok,
    /// 1: something failed.
    Failed,
    /// 2: the command line or the query is wrong.
    Usage,
    /// 3: the feed failed. Retry later.
    Feed,
    /// 4: another process writes to the store.
    Busy,
    /// 5: the store is corrupt, or of a format that this build does not read.
    Corrupt,
    /// 6: finished, but something needs a look: quarantine, or the brake on deletions.
    Degraded,
}

impl Exit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Of two results, the one to exit with. A command that failed is worse than one that needs a
    /// look; a broken store is worse than anything.
    pub(crate) fn worst(self, other: Exit) -> Exit {
        let rank = |exit: Exit| match exit {
            Exit::Ok => 0,
            Exit::Degraded => 1,
            Exit::Feed => 2,
            Exit::Usage => 3,
            Exit::Failed => 4,
            Exit::Busy => 5,
            Exit::Corrupt => 6,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told to the user.
    Told(Box<Told>),
    /// The reader of the output went away: no failure at all.
    BrokenPipe,
}

/// A failure in words.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// Lines below the message: a query with a caret.
    detail: Vec<String>,
    hint: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Told(Box::new(Told {
            exit,
            message: message.into(),
            detail: Vec::new(),
            hint: hint.into(),
        }))
    }

    pub(crate) fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(Exit::Failed, message, hint)
    }

    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, message, hint)
    }

    /// An operation on a file failed.
    pub(crate) fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let message = format!("{doing} {}: {error}", path.display());
        Failure::failed(message, file_hint(error))
    }

    pub(crate) fn stopped() -> Self {
        Failure::failed(
            "stopped before the end",
            "what was applied is kept; run the same command again to go on",
        )
    }

    /// What the process exits with for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Told(told) => told.exit,
            Failure::BrokenPipe => Exit::Ok,
        }
    }

    /// Another hint, by a command that knows better.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if let Failure::Told(told) = &mut self {
            told.hint = hint.into();
        }
        self
    }

    /// The hint, and more of it.
    pub(crate) fn with_more_hint(mut self, more: &str) -> Self {
        if let Failure::Told(told) = &mut self {
            told.hint = format!("{}. {more}", told.hint);
        }
        self
    }

    /// Lines below the message.
    pub(crate) fn with_detail(mut self, lines: Vec<String>) -> Self {
        if let Failure::Told(told) = &mut self {
            told.detail = lines;
        }
        self
    }

    /// Prints the message, what it points at and the hint.
    pub(crate) fn report(self, err: &mut dyn Write, colour: bool) -> Exit {
        let Failure::Told(told) = self else {
            return Exit::Ok;
        };
        let paint = Paint(colour);
        let mut text = format!("{} {}\n", paint.error("error:"), printable(&told.message));
        for line in &told.detail {
            let _ = writeln!(text, "  {line}");
        }
        let _ = writeln!(text, "{} {}", paint.hint("hint:"), printable(&told.hint));
        // Where messages cannot be written, there is nobody to tell.
        let _ = err.write_all(text.as_bytes());
        told.exit
    }
}

impl From<io::Error> for Failure {
    /// An error of the output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::BrokenPipe;
        }
        let hint = file_hint(&error);
        Failure::failed(format!("cannot write the output: {error}"), hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Query(error) => query_failure(&error),
            Error::Source(error) => source_failure(&error),
            Error::Decode(error) => Failure::new(
                Exit::Feed,
                error.to_string(),
                "the page is in quarantine and nothing of it was applied; `relist quarantine show` \
                 prints it, `relist sync` tries again",
            ),
            Error::Metadata { .. } => Failure::failed(
                message,
                "the server's $metadata is not what OData CSDL XML looks like; report it to the \
                 provider",
            ),
            Error::UnknownResource { name, known } => unknown_resource(&name, &known),
            Error::Format { .. } => Failure::new(
                Exit::Corrupt,
                message,
                "give a Relist store by --store, or use a build of relist that reads this format",
            ),
            Error::Locked { .. } => Failure::new(
                Exit::Busy,
                message,
                "try again when it has finished, or give --wait 5m; what reads works meanwhile",
            ),
            Error::Corrupt { .. } => Failure::new(
                Exit::Corrupt,
                message,
                "`relist verify` says what is damaged, `relist verify --repair` mends what it can; \
                 or restore a copy of the file",
            ),
            Error::Pruned { oldest } => {
                Failure::failed(message, format!("read from --since {oldest} on"))
            }
            Error::Brake { .. } => Failure::new(
                Exit::Degraded,
                message,
                "look at the feed first; then `relist sync --full --confirm` deletes them",
            ),
            Error::Stopped => Failure::stopped(),
            Error::Usage(_) => Failure::usage(message, "relist COMMAND --help says what it takes"),
            Error::Storage(error) if error.is_disk_full() => Failure::failed(
                message,
                "free some space and run the command again: what was committed is safe",
            ),
            Error::Io { source, .. } => Failure::failed(message, file_hint(&source)),
            _ => Failure::failed(
                message,
                "what was committed is safe; run the command again, then `relist verify`",
            ),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        query_failure(&error)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        source_failure(&error)
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let message = error.to_string();
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Exists { .. } => {
                Failure::failed(message, "--force replaces it; nothing was written")
            }
            ExportError::Extension { .. } => Failure::usage(
                message,
                "name the file so, or write `--to -` for standard output",
            ),
            ExportError::Lake { .. } => Failure::failed(
                message,
                "the lake is as it was; name another folder or --feed, or try again",
            ),
            ExportError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
                Failure::BrokenPipe
            }
            ExportError::Io { source, .. } => Failure::failed(message, file_hint(&source)),
            _ => Failure::failed(message, "nothing was written; run the command again"),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        match error {
            ConfigError::Token(error) => error.into(),
            ConfigError::UnknownProfile { .. } => Failure::usage(
                message,
                "set `provider` in relist.toml to one of these, or `profile` to a file of your own",
            ),
            ConfigError::BaseUrl { .. } => Failure::usage(
                message,
                "set `url` in relist.toml to the feed's service root",
            ),
            _ => Failure::usage(
                message,
                "correct it in relist.toml or in the profile it names",
            ),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let hint = match &error {
            TokenError::TooOpen { path, .. } => format!("chmod 600 {}", path.display()),
            TokenError::Io { .. } => {
                "put the token into that file (mode 0600), or into the variable RELIST_TOKEN"
                    .to_owned()
            }
            _ => "the token is in the variable RELIST_TOKEN, or in the file that `token_file` in \
                  relist.toml names"
                .to_owned(),
        };
        Failure::failed(error.to_string(), hint)
    }
}

pub(crate) fn file_hint(error: &io::Error) -> &'static str {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound => "check the path",
        K::PermissionDenied => "check the permissions of the file and of its directory",
        K::AlreadyExists => "choose another name, or remove the file first",
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
            "free some space and run the command again"
        }
        K::IsADirectory => "give files, not a directory",
        _ => "run the command again; if it stays so, the disk or the file system has a fault",
    }
}

fn source_failure(error: &SourceError) -> Failure {
    use SourceErrorKind as K;
    let hint = match error.kind {
        K::Unavailable => "nothing is lost: run the same command again later, it goes on there",
        K::Unauthorized => {
            "the token was refused: put a valid one into RELIST_TOKEN, or into the file that \
             `token_file` in relist.toml names"
        }
        K::NotFound => {
            "the server has no such resource; `url` and the resources' names are in relist.toml"
        }
        K::Refused => "the server refused the query: the profile does not fit it",
        K::LinkExpired => "run the same command again: the walk begins anew",
        K::Malformed => {
            "nothing of that answer was applied; check `url` in relist.toml, or try again later"
        }
        K::Stopped => return Failure::stopped(),
        K::File => return Failure::failed(error.to_string(), "check the path"),
        _ => "run the same command again later",
    };
    Failure::new(Exit::Feed, error.to_string(), hint)
}

fn unknown_resource(name: &str, known: &[String]) -> Failure {
    let hint = if known.is_empty() {
        "the store is empty: `relist sync` or `relist ingest` fills it".to_owned()
    } else if let Some(close) = known.iter().find(|k| k.eq_ignore_ascii_case(name)) {
        format!("did you mean {close}? Names are case sensitive")
    } else {
        format!("it has {}", known.join(", "))
    };
    Failure::usage(format!("no resource named {name} in this store"), hint)
}

/// Columns of a query that are shown around the place at fault.
const SHOWN_BEFORE: usize = 40;
const SHOWN_AFTER: usize = 60;

/// Shows the query and marks the place.
fn query_failure(error: &QueryError) -> Failure {
    let hint = error
        .hint
        .clone()
        .unwrap_or_else(|| "relist query --help shows how queries are written".to_owned());
    let mut told = Told {
        exit: Exit::Usage,
        message: format!("{}: {}", error.option, error.message),
        detail: Vec::new(),
        hint,
    };
    if !error.text.is_empty() {
        let (line, marks) = pointed(&error.text, error.offset, error.len);
        told.detail = vec![line, marks];
    }
    Failure::Told(Box::new(told))
}

/// The text around a span, and a line of carets below it.
fn pointed(text: &str, offset: usize, len: usize) -> (String, String) {
    use unicode_width::UnicodeWidthStr as _;
    let before = text.get(..offset).unwrap_or(text);
    let span = text
        .get(offset..offset.saturating_add(len))
        .unwrap_or_default();
    let after = text.get(offset.saturating_add(len)..).unwrap_or_default();
    let skipped = before.chars().count().saturating_sub(SHOWN_BEFORE);
    let mut left: String = before.chars().skip(skipped).collect();
    if skipped > 0 {
        left.insert(0, '…');
    }
    let cut = |text: &str| {
        let mut shown: String = text.chars().take(SHOWN_AFTER).collect();
        if text.chars().nth(SHOWN_AFTER).is_some() {
            shown.push('…');
        }
        printable(&shown)
    };
    let (left, middle, right) = (printable(&left), cut(span), cut(after));
    let marks = format!(
        "{}{}",
        " ".repeat(left.width()),
        "^".repeat(middle.width().max(1))
    );
    (format!("{left}{middle}{right}"), marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(failure: Failure) -> (String, Exit) {
        let mut err = Vec::new();
        let exit = failure.report(&mut err, false);
        (String::from_utf8(err).unwrap(), exit)
    }

    #[test]
    fn a_query_error_points_at_its_place() {
        let error = QueryError {
            option: "$filter",
            text: "City eq 'Orém' and ListPrise lt 5".to_owned(),
            offset: 20,
            len: 9,
            message: "no field ListPrise".to_owned(),
            hint: Some("did you mean ListPrice?".to_owned()),
        };
        let (text, exit) = shown(error.into());
        assert_eq!(
            text,
            "error: $filter: no field ListPrise\n  \
             City eq 'Orém' and ListPrise lt 5\n  \
             \u{20}                  ^^^^^^^^^\n\
             hint: did you mean ListPrice?\n"
        );
        assert_eq!(exit, Exit::Usage);
    }

    #[test]
    fn a_long_query_is_shown_around_the_place() {
        let text = format!("{}X{}", "a ".repeat(5_000), " b".repeat(5_000));
        let (line, marks) = pointed(&text, 10_000, 1);
        assert!(line.chars().count() < 120, "{line}");
        assert_eq!(line.chars().position(|c| c == 'X'), marks.find('^'));
    }

    #[test]
    fn what_cannot_be_printed_does_not_reach_the_terminal() {
        let (text, _) = shown(Failure::failed("a\u{1b}[31mb\nc", "d"));
        assert_eq!(text, "error: a\u{fffd}[31mb c\nhint: d\n");
    }

    #[test]
    fn the_worst_exit_wins() {
        let worst = |exits: &[Exit]| exits.iter().fold(Exit::Ok, |a, b| a.worst(*b));
        assert_eq!(worst(&[Exit::Degraded, Exit::Feed, Exit::Ok]), Exit::Feed);
        assert_eq!(worst(&[Exit::Busy, Exit::Corrupt]), Exit::Corrupt);
        assert_eq!(worst(&[Exit::Ok, Exit::Ok]), Exit::Ok);
    }
}
