//! `relist.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relist::watch::Rule;
use relist_feed::OnRevoke;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::args::quoted_path;
use crate::failure::Failure;
use crate::schedule::{JobSettings, Settings};

/// The name that is looked for in the current directory.
pub(crate) const FILE: &str = "relist.toml";
/// The store's name where the configuration has none.
pub(crate) const STORE: &str = "relist.redb";

/// What `relist.toml` says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A built-in profile.
    pub(crate) provider: Option<String>,
    /// A profile's file, instead.
    pub(crate) profile: Option<PathBuf>,
    /// The service root.
    pub(crate) url: Option<String>,
    /// The store.
    pub(crate) store: Option<PathBuf>,
    /// The token's file.
    pub(crate) token_file: Option<PathBuf>,
    /// The client id, for providers that give tokens by client credentials.
    pub(crate) client_id: Option<String>,
    /// The file of the client's secret.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// The resources to sync.
    pub(crate) resources: Option<Vec<String>>,
    /// Values of the profile's variables.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    /// What becomes of what the feed takes back, where it is not as the profile says.
    pub(crate) on_revoke: Option<OnRevoke>,
    /// An HTTP proxy.
    pub(crate) proxy: Option<String>,
    /// Certificates of authorities to trust.
    pub(crate) ca_file: Option<PathBuf>,
    /// Photos and documents.
    #[serde(default)]
    pub(crate) media: MediaConfig,
    /// Lists of fields, by name.
    #[serde(default)]
    pub(crate) track: BTreeMap<String, Vec<String>>,
    /// By resource, the fields of degrees north and degrees east that `Coordinates` stands for.
    #[serde(default)]
    pub(crate) coordinates: BTreeMap<String, (String, String)>,
    /// What to watch for, and where events go.
    #[serde(default)]
    pub(crate) watch: Watch,
    /// What holds for all jobs of `relist schedule`.
    #[serde(default)]
    pub(crate) schedule: Settings,
    /// The jobs of `relist schedule`; the usual ones otherwise.
    #[serde(default, rename = "job")]
    pub(crate) jobs: Vec<JobSettings>,
    /// What people try, and what must not be here.
    token: Option<IgnoredAny>,
    client_secret: Option<IgnoredAny>,
    /// Where it was read from.
    #[serde(skip)]
    pub(crate) path: PathBuf,
}

/// What `[media]` in `relist.toml` says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MediaConfig {
    /// The folder of the files.
    pub(crate) dir: Option<PathBuf>,
    /// What becomes of the files of a deleted listing.
    pub(crate) on_delete: OnDelete,
    /// The only hosts files are fetched from.
    pub(crate) hosts: Vec<String>,
    /// The most bytes a file may have.
    pub(crate) max_bytes: Option<usize>,
    /// Whether listings are asked one by one where the store holds nothing of their media.
    pub(crate) ask: Option<bool>,
    /// Whether this machine itself may be asked, by http too.
    pub(crate) allow_loopback: bool,
}

/// What becomes of the files of a deleted listing.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnDelete {
    #[default]
    Remove,
    Keep,
}

/// The table `[watch]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watch {
    /// The watcher's name.
    pub(crate) name: Option<String>,
    /// Where events go.
    pub(crate) to: Option<String>,
    /// The command that events are given to.
    pub(crate) exec: Option<String>,
    /// How long that command may take for one event.
    pub(crate) timeout: Option<String>,
    /// The file with the secret that signs what goes to a webhook.
    pub(crate) secret_file: Option<PathBuf>,
    /// The rules.
    #[serde(default)]
    pub(crate) rule: Vec<Rule>,
}

impl Config {
    /// Reads a configuration file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let failure = Failure::file("cannot read", path, &error);
            match error.kind() {
                std::io::ErrorKind::NotFound => failure.with_hint("relist init writes one"),
                _ => failure,
            }
        })?;
        let mut config = Config::parse(&text, path)?;
        path.clone_into(&mut config.path);
        Ok(config)
    }

    /// An error names the line, and never shows it: it may hold a secret in the wrong place.
    fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
            Failure::usage(
                format!(
                    "{} line {line}: {}",
                    path.display(),
                    relist_feed::without_values(error.message())
                ),
                "relist init --force writes a new file with every setting explained",
            )
        })?;
        if config.token.is_some() || config.client_secret.is_some() {
            return Err(Failure::usage(
                format!("{}: a secret does not belong here", path.display()),
                "move it into a file of mode 0600 and name that by `token_file` or \
                 `client_secret_file`, or into the variable RELIST_TOKEN or RELIST_CLIENT_SECRET",
            ));
        }
        if config.provider.is_some() && config.profile.is_some() {
            return Err(Failure::usage(
                format!(
                    "{}: `provider` and `profile` exclude each other",
                    path.display()
                ),
                "keep one of them",
            ));
        }
        Ok(config)
    }

    /// A path in the file is meant from where the file is.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// Sections that not every configuration has, each a comment.
const OPTIONAL_SECTIONS: &str = "\
    # Lists of fields, for relist changes --track NAME.\n\
    # [track]\n\
    # price = [\"ListPrice\", \"OriginalListPrice\"]\n\
    \n\
    # The fields that Coordinates stands for in filters, latitude first, where they are not\n\
    # Latitude and Longitude.\n\
    # [coordinates]\n\
    # Property = [\"MapLatitude\", \"MapLongitude\"]\n\
    \n\
    # What relist watch looks for. More kinds of rules are in docs/watch.md.\n\
    # [[watch.rule]]\n\
    # name = \"under contract\"\n\
    # on = \"transition\"\n\
    # from = \"Active\"\n\
    # to = \"Pending\"\n\
    \n\
    # What `relist schedule run` does, where the usual jobs are not wanted: one of `cron`,\n\
    # `every` and `after` (a job's name) for each. `relist schedule list` shows them.\n\
    # [schedule]\n\
    # timezone = \"America/Denver\"\n\
    # [[job]]\n\
    # name = \"full\"\n\
    # run = \"sync --full\"\n\
    # cron = \"0 2 * * SUN\"\n";

/// The text of a new `relist.toml`.
pub(crate) fn template(
    provider: &str,
    url: Option<&str>,
    token_file: Option<&Path>,
    store: &Path,
) -> String {
    let quote = |text: &str| toml::Value::from(text).to_string();
    let url = match url {
        Some(url) => format!("url = {}", quote(url)),
        None => "# url = \"https://api.example.com/reso/odata\"".to_owned(),
    };
    let variables = variables(provider);
    let token_file = match token_file {
        Some(path) => format!("token_file = {}", quote(&path.to_string_lossy())),
        None => "# token_file = \"relist.token\"".to_owned(),
    };
    format!(
        "# Relist: which feed is mirrored, and where to.\n\
         \n\
         # The provider, whose rules are built in: {known}.\n\
         provider = {provider}\n\
         # Or a profile of your own, instead:\n\
         # profile = \"my-provider.toml\"\n\
         \n\
         # The feed's service root, where it is not the provider's own. https; http on loopback.\n\
         {url}\n\
         \n\
         # The token is never in this file. It comes from the variable RELIST_TOKEN, or from a\n\
         # file that only you can read (chmod 600).\n\
         {token_file}\n\
         # Where the provider gives tokens for a client's id and secret, the secret comes from\n\
         # RELIST_CLIENT_SECRET, or from such a file.\n\
         # client_id = \"..\"\n\
         # client_secret_file = \"relist.secret\"\n\
         \n\
         # The store: one file, beside this one unless it says a path.\n\
         store = {store}\n\
         \n\
         # What to sync, in this order; the provider's own list otherwise.\n\
         # resources = [\"Property\", \"Member\", \"Office\"]\n\
         \n\
         # The way out, where it is not the plain one.\n\
         # proxy = \"http://proxy.example:3128\"\n\
         # ca_file = \"company-ca.pem\"\n\
         \n\
         # Photos and documents: relist media sync.\n\
         # [media]\n\
         # dir = \"media\"\n\
         # on_delete = \"keep\"\n\
         # hosts = [\".example.com\"]\n\
         # max_bytes = 52428800\n\
         \n\
         # Values that some providers' profiles ask for.\n\
         {variables}\n\
         \n\
         {}",
        OPTIONAL_SECTIONS,
        known = relist_feed::Profile::names().collect::<Vec<_>>().join(", "),
        provider = quote(provider),
        store = quote(&store.to_string_lossy()),
    )
}

/// The section of the variables that a provider's profile asks for.
fn variables(provider: &str) -> String {
    let profile = relist_feed::Profile::named(provider);
    let asked = profile.map(|p| p.variables).unwrap_or_default();
    let mut out = String::new();
    for (name, value) in asked {
        use std::fmt::Write as _;
        let section = if out.is_empty() { "[variables]\n" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{section}{name} = {}", toml::Value::from(value));
    }
    if out.is_empty() {
        return "# [variables]\n# system = \"actris\"".to_owned();
    }
    out.trim_end().to_owned()
}

/// Why there is no configuration, and how to get one.
pub(crate) fn missing(directory: &Path) -> Failure {
    let place = quoted_path(directory);
    Failure::usage(
        format!("there is no {FILE} in {place}, and nothing names a store"),
        "relist init writes one here; --config FILE names one, --store FILE (or RELIST_STORE) a \
         store alone; relist demo needs nothing",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(failure: Failure) -> String {
        let mut err = Vec::new();
        failure.report(&mut err, false);
        String::from_utf8(err).unwrap()
    }

    #[test]
    fn the_template_reads_back() {
        let text = template("wfrmls", None, None, Path::new(STORE));
        let config = Config::parse(&text, Path::new(FILE)).unwrap();
        assert_eq!(config.provider.as_deref(), Some("wfrmls"));
        assert_eq!(config.store.as_deref(), Some(Path::new(STORE)));
        assert_eq!((config.url, config.token_file), (None, None));
        let odd = Path::new("a \"b\"\\c");
        let text = template("x", Some("http://127.0.0.1:1/x"), Some(odd), odd);
        let config = Config::parse(&text, Path::new(FILE)).unwrap();
        assert_eq!(config.token_file.as_deref(), Some(odd));
        assert_eq!(config.url.as_deref(), Some("http://127.0.0.1:1/x"));
    }

    #[test]
    fn every_setting_of_the_template_exists() {
        let text = template("wfrmls", None, None, Path::new(STORE));
        let shown = text.replace("# profile", "#profile").replace("\n# ", "\n");
        let settings = shown
            .lines()
            .filter(|l| l.contains(" = ") || l.starts_with('['));
        let settings: Vec<&str> = settings.collect();
        assert!(settings.len() >= 7, "{settings:?}");
        Config::parse(&settings.join("\n"), Path::new(FILE)).unwrap();
    }

    #[test]
    fn a_mistake_is_named_and_a_secret_not_shown() {
        for (text, expect) in [
            (
                "provider = \"wfrmls\"\ntoken = \"s3cret\"",
                "does not belong",
            ),
            ("\n\nbearer = \"s3cret\"", "line 3"),
            ("store = \"x\ntoken_file = \"s3cret\"", "line 1"),
            ("provider = \"a\"\nprofile = \"s3cret\"", "exclude"),
        ] {
            let text = message(Config::parse(text, Path::new(FILE)).unwrap_err());
            assert!(text.contains(expect) && text.contains(FILE), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    /// Damages a text in some places; the same for the same number.
    fn damaged(text: &str, number: u64) -> String {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: usize| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
            usize::try_from(high).unwrap() % limit.max(1)
        };
        let words = [
            "\"",
            "'",
            "[",
            "[[",
            "]",
            "{",
            "=",
            "\n",
            "#",
            "\0",
            "é🏠",
            "\\",
            "true",
            "-1",
            "1e999",
            "9223372036854775808",
            "token",
            "[job]",
            "store.x = 1",
            "2026-01-01",
        ];
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=below(4) {
            let at = below(chars.len() + 1);
            let end = (at + below(30)).min(chars.len());
            match below(4) {
                0 => drop(chars.drain(at..end)),
                1 => {
                    let part = chars[at..end].to_vec();
                    chars.splice(at..at, part);
                }
                2 => chars.truncate(at),
                _ => drop(chars.splice(at..at, words[below(words.len())].chars())),
            }
        }
        chars.into_iter().collect()
    }

    #[test]
    fn any_text_is_a_configuration_or_an_error_that_says_where() {
        let url = Some("https://example.com");
        let plain = template("wfrmls", url, None, Path::new(STORE));
        let all = plain.replace("# profile", "#profile").replace("\n# ", "\n");
        let (mut taken, mut refused) = (0, 0);
        for number in 0..6_000 {
            let text = damaged(if number % 2 == 0 { &plain } else { &all }, number);
            let Err(failure) = Config::parse(&text, Path::new(FILE)) else {
                taken += 1;
                continue;
            };
            refused += 1;
            let told = message(failure);
            let last = text.matches('\n').count() + 1;
            let line = told
                .split("line ")
                .nth(1)
                .and_then(|rest| rest.split(':').next());
            let line = line.and_then(|line| line.parse::<usize>().ok());
            let whole = told.contains("does not belong") || told.contains("exclude");
            assert!(
                whole || line.is_some_and(|line| (1..=last).contains(&line)),
                "{told}\n{text}"
            );
        }
        assert!(taken > 100 && refused > 100, "{taken} {refused}");
    }
}
