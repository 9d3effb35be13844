//! Tokens: the secret that authorises requests, and how to keep it one.
//!
//! A [`Token`] prints as nothing but its kind, is wiped from memory when dropped, and comes from
//! an environment variable that the caller read or from a file only its owner can read. It never
//! comes from the command line, where every process on the machine can see it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// A bearer token. Neither `Debug` nor any error shows its content.
#[derive(Clone)]
pub struct Token(SecretString);

/// Why a token cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is nothing in it.
    #[error("the token from {origin} is empty")]
    Empty {
        /// The variable or the file.
        origin: String,
    },
    /// It holds what an HTTP header cannot: white space inside, or other than visible ASCII.
    #[error(
        "the token from {origin} has a character at place {place} that no token has; give the \
         token alone, on one line, without `Bearer`"
    )]
    BadCharacter {
        /// The variable or the file.
        origin: String,
        /// Which character, from 1.
        place: usize,
    },
    /// The file is too large to hold a token.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes: not a token file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can read or write the file.
    #[error(
        "others can read the token in {} (mode {mode:03o}): chmod 600 {}",
        path.display(),
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error(
        "the token file {} belongs to user {owner}, not to the user who runs this ({user})",
        path.display()
    )]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// The file could not be read.
    #[error("the token file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// The longest token file. Tokens are under 4 KiB; a larger file was named by mistake.
const MAX_FILE_BYTES: u64 = 64 * 1024;

impl Token {
    /// Takes the value of an environment variable, which the caller read; `variable` is its name.
    pub fn from_env_value(variable: &str, value: &str) -> Result<Self, TokenError> {
        Token::checked(value, variable)
    }

    /// Reads a file that only its owner can read (mode 0600 or less, on Unix).
    ///
    /// White space around the token is dropped. The file is checked after it is opened, so a file
    /// put in its place meanwhile is not read.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        if !about.is_file() {
            return Err(io(std::io::Error::other("it is not a file")));
        }
        check_owner(path, &about)?;
        let capacity = usize::try_from(about.len().min(MAX_FILE_BYTES)).unwrap_or(0) + 64;
        let mut text = String::with_capacity(capacity);
        let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
        let text = SecretString::from(text);
        if read.map_err(io)? as u64 > MAX_FILE_BYTES {
            return Err(TokenError::TooLarge {
                path: path.to_owned(),
            });
        }
        Token::checked(text.expose_secret(), &path.display().to_string())
    }

    fn checked(text: &str, origin: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty {
                origin: origin.to_owned(),
            });
        }
        if let Some(at) = text.chars().position(|c| !c.is_ascii_graphic()) {
            return Err(TokenError::BadCharacter {
                origin: origin.to_owned(),
                place: at + 1,
            });
        }
        Ok(Token(SecretString::from(text)))
    }

    /// The content. The only ways out of this crate are the `Authorization` header and
    /// [`Token::redact`].
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Takes every trace of the token out of a text that a server wrote, however each of its
    /// characters is spelled: as it is, escaped as in JSON, or percent-encoded.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let (kept, length) = match spelled_at(rest.as_bytes(), self.expose().as_bytes()) {
                Some(length) => (MARK, length),
                None => (rest.get(..c.len_utf8()).unwrap_or_default(), c.len_utf8()),
            };
            out.push_str(kept);
            rest = rest.get(length..).unwrap_or_default();
        }
        out
    }
}

/// Every secret that this client has held: what is taken out of any text it shows. A clone shares
/// them.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<Vec<Token>>>);

impl Secrets {
    pub(crate) fn add(&self, token: Token) {
        self.lock().push(token);
    }

    /// Takes every trace of the secrets out of a text.
    pub(crate) fn redact(&self, text: &str) -> String {
        let secrets = self.lock();
        let mut out = text.to_owned();
        for token in secrets.iter() {
            out = token.redact(&out);
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Token> for Secrets {
    fn from(token: Token) -> Self {
        let secrets = Secrets::default();
        secrets.add(token);
        secrets
    }
}

/// How many bytes of `text` spell the token at its start, if they do.
fn spelled_at(text: &[u8], token: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in token {
        let rest = text.get(at..)?;
        at += match rest {
            [first, ..] if first == byte => 1,
            [b'\\', second, ..] if second == byte => 2,
            [b'%', digits @ ..] if is_hex_of(digits.get(..2)?, *byte) => 3,
            [b'\\', b'u', b'0', b'0', digits @ ..] if is_hex_of(digits.get(..2)?, *byte) => 6,
            _ => return None,
        };
    }
    Some(at)
}

fn is_hex_of(digits: &[u8], byte: u8) -> bool {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u8::from_str_radix(text, 16) == Ok(byte)
}

/// What stands where a token was.
pub(crate) const MARK: &str = "[token]";

/// Prints that it is a token, and nothing of it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([hidden])")
    }
}

/// Refuses a file that others can use, or that another user put there.
#[cfg(unix)]
fn check_owner(path: &Path, about: &std::fs::Metadata) -> Result<(), TokenError> {
    use std::os::unix::fs::MetadataExt;
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let (owner, user) = (about.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(TokenError::ForeignOwner {
            path: path.to_owned(),
            owner,
            user,
        });
    }
    Ok(())
}

/// Elsewhere the file system's own access lists decide, and std shows no part of them.
#[cfg(not(unix))]
fn check_owner(_: &Path, _: &std::fs::Metadata) -> Result<(), TokenError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn files_of_others_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        for mode in [0o600, 0o400, 0o700] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(Token::from_file(&path).unwrap().expose(), "s3cret");
        }
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601, 0o644] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = Token::from_file(&path).unwrap_err().to_string();
            let hint = format!("chmod 600 {}", path.display());
            assert!(
                error.contains(&hint) && !error.contains("s3cret"),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let error = Token::from_file(&path).unwrap_err();
            assert!(
                matches!(error, TokenError::ForeignOwner { owner: 65_534, .. }),
                "{error}"
            );
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_token_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Token::from_file(dir.path()),
            Err(TokenError::Io { .. })
        ));
        let missing = dir.path().join("missing");
        let error = Token::from_file(&missing).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        let large = private_file(&dir, "large", &"x".repeat(70_000));
        assert!(matches!(
            Token::from_file(&large),
            Err(TokenError::TooLarge { .. })
        ));
        let empty = private_file(&dir, "empty", "\n");
        assert!(matches!(
            Token::from_file(&empty),
            Err(TokenError::Empty { .. })
        ));
    }

    #[cfg(unix)]
    fn private_file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_token_is_trimmed_and_never_shown() {
        let token = Token::from_env_value("RELIST_TOKEN", " s3cret/+x \n").unwrap();
        assert_eq!(token.expose(), "s3cret/+x");
        assert_eq!(format!("{token:?}"), "Token([hidden])");
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        for (text, expect) in [
            ("", "empty"),
            (" \n", "empty"),
            ("Bearer s3cret", "place 7"),
            ("s3cr\u{e9}t", "place 5"),
            ("s3\r\ncret", "place 3"),
        ] {
            let error = Token::from_env_value("RELIST_TOKEN", text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains(expect) && shown.contains("RELIST_TOKEN"),
                "{shown}"
            );
            assert!(!shown.contains("s3"), "{shown}");
        }
    }

    #[test]
    fn redaction_finds_the_token_in_each_spelling() {
        let token = Token::from_env_value("T", "Ab/cd+ef==").unwrap();
        let echo = r"Ab/cd+ef== Ab\/cd+ef== Ab%2Fcd%2Bef%3D%3D Ab%2fcd+ef%3d= \u0041b/cd\u002bef==";
        assert_eq!(
            token.redact(echo),
            "[token] [token] [token] [token] [token]"
        );
        assert_eq!(token.redact("xAb/cd+ef==\u{e9}%"), "x[token]\u{e9}%");
        assert_eq!(token.redact("Ab/cd+ef="), "Ab/cd+ef=");
        assert_eq!(token.redact("nothing"), "nothing");
    }
}
