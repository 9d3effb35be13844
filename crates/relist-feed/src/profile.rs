//! Profiles: a provider's rules as data.
//!
//! A [`Profile`] says how one provider's RESO Web API wants to be read: how it pages, what moves
//! its cursor, how it signals a deletion, how it spells an enumeration literal. It is TOML, so a
//! new provider is a file, not code. A mistyped name in it is an error, never ignored.

use std::collections::BTreeMap;
use std::path::Path;

use relist::value::DateTime;
use serde::Deserialize;

use crate::error::ConfigError;
use crate::media::MediaRules;
use crate::quota::QuotaRules;

/// The profiles that are built in: name and text.
const SHIPPED: &[(&str, &str)] = &[
    ("wfrmls", include_str!("../profiles/wfrmls.toml")),
    ("mlsgrid", include_str!("../profiles/mlsgrid.toml")),
    ("bridge", include_str!("../profiles/bridge.toml")),
    ("trestle", include_str!("../profiles/trestle.toml")),
    ("spark", include_str!("../profiles/spark.toml")),
    ("crea", include_str!("../profiles/crea.toml")),
    (
        "generic-reso",
        include_str!("../profiles/generic-reso.toml"),
    ),
    (
        "entity-event",
        include_str!("../profiles/entity-event.toml"),
    ),
];

/// How one provider's RESO Web API wants to be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Profile {
    /// The profile's name: `wfrmls`.
    pub name: String,
    /// The provider's name, for people.
    #[serde(default)]
    pub title: Option<String>,
    /// The service root, where the provider has one for all; it may hold `{variables}`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The `User-Agent` to send, where the provider wants its own; `relist/VERSION` otherwise.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// How a query is walked from its first page to its last.
    pub walk: Walk,
    /// Rows a page, at most; the server's own choice when absent.
    #[serde(default)]
    pub page_size: Option<u64>,
    /// Rows a page, at most, when the query has `$expand`.
    #[serde(default)]
    pub page_size_expanded: Option<u64>,
    /// Rows a page, at most, when the query selects nothing but keys and timestamps.
    #[serde(default)]
    pub page_size_keys: Option<u64>,
    /// How the page size is asked for.
    #[serde(default)]
    pub paging: Paging,
    /// Whether the server accepts `$orderby`.
    #[serde(default = "yes")]
    pub orderby: bool,
    /// Whether the server answers `$count=true`; it is not asked where it does not.
    #[serde(default = "yes")]
    pub count: bool,
    /// How an enumeration literal is written in `$filter`.
    pub enum_literals: EnumLiterals,
    /// What tells new rows from old.
    #[serde(default)]
    pub cursor: Cursor,
    /// How the provider says that a row is gone.
    pub deletes: Deletes,
    /// What becomes of what the provider takes back.
    #[serde(default)]
    pub on_revoke: OnRevoke,
    /// How requests are authorised.
    pub auth: Auth,
    /// How much the provider lets through.
    #[serde(default)]
    pub quota: QuotaRules,
    /// Where photos are, and what tells that they changed.
    #[serde(default)]
    pub media: MediaRules,
    /// Clauses that the provider wants in `$filter`.
    #[serde(default)]
    pub filters: Filters,
    /// Query options that go with every query, beside OData's own: `Replication = "true"`.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Values for the `{name}` places in `base_url` and `filters`; an empty one must be set.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The resources to sync unless told otherwise.
    pub sync: Vec<String>,
    /// What differs for single resources, by entity set name.
    #[serde(default)]
    pub resources: BTreeMap<String, ResourceProfile>,
}

/// What becomes of a record that the provider takes back: that it deletes, or does not show any
/// more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnRevoke {
    /// It is deleted, and keeps its history.
    #[default]
    Tombstone,
    /// It is purged, with its history: where the licence says that nothing may be kept.
    Purge,
}

/// How a query is walked from its first page to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Walk {
    /// `$orderby=Key&$filter=Key gt <last key>`: does not lose rows that change under the walk.
    Keyset,
    /// The server's `@odata.nextLink` (or `Link: rel="next"`) until there is none.
    Nextlink,
    /// A resource that lists keys and timestamps is walked along its nextLinks, and the records
    /// are fetched by key: for servers that let no other walk get to the end.
    Keylist,
}

/// How the page size is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Paging {
    /// `Prefer: odata.maxpagesize=N`.
    #[default]
    Prefer,
    /// `$top=N` in walks by key, and `Prefer` in walks along nextLinks: for a server that reads
    /// `$top` as the total over all pages, as OData says.
    Top,
    /// `$top=N` in every query: for a server that reads `$top` as the size of a page and gives a
    /// nextLink all the same.
    TopPerPage,
}

/// How an enumeration literal is written in `$filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EnumLiterals {
    /// `Odata.Models.StandardStatus'Active'`, as OData 4.0 says.
    Qualified,
    /// `StandardStatus'Active'`.
    Short,
    /// `'Active'`, as OData 4.01 allows and string lookups need.
    String,
}

/// What tells new rows from old: a timestamp that every change moves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Cursor {
    /// The timestamp field.
    pub field: String,
    /// How far before the last watermark a run starts again, in seconds: late commits and server
    /// caches put rows behind a watermark that has already passed.
    pub overlap_seconds: u64,
    /// Digits of fraction of a second in the server's timestamps, 0 to 9.
    pub fraction_digits: u8,
}

impl Default for Cursor {
    fn default() -> Self {
        Cursor {
            field: "ModificationTimestamp".to_owned(),
            overlap_seconds: 900,
            fraction_digits: 0,
        }
    }
}

/// How the provider says that a row is gone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Deletes {
    /// Rows are never deleted.
    None {},
    /// A resource lists the rows that were deleted.
    Feed {
        /// That resource: `Deleted`.
        resource: String,
        /// Its field that names the deleted row's resource.
        resource_field: String,
        /// Its field that holds the deleted row's key.
        key_field: String,
        /// Its field that says when.
        time_field: String,
    },
    /// A field of the row itself says so: `MlgCanView` false, `MlsStatus` `Delete`.
    Flag {
        /// The field.
        field: String,
        /// The value that means gone.
        value: FlagValue,
        /// For how many days such rows stay in the feed. Who has not looked for longer has missed
        /// some, and must compare all keys.
        #[serde(default)]
        visible_days: Option<u32>,
    },
    /// The EntityEvent resource names each record that changed; a record that then cannot be had
    /// (404) is gone for this reader (RESO RCP-27).
    Events {
        /// That resource: `EntityEvent`.
        resource: String,
        /// Its field that orders the events: `EntityEventSequence`.
        sequence_field: String,
        /// Its field that names the record's resource: `ResourceName`.
        resource_field: String,
        /// Its field that holds the record's key: `ResourceRecordKey`.
        key_field: String,
    },
    /// Nothing says so: only a sweep over the keys finds what is gone.
    Reconcile {},
}

/// The value of a flag that means that a row is gone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum FlagValue {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A string or an enumeration member.
    String(String),
}

/// How requests are authorised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Auth {
    /// A long-lived token, sent as `Authorization: Bearer`.
    Bearer {},
    /// OAuth 2.0 client credentials (RFC 6749, section 4.4; RESO RCP-26): a client id and secret
    /// are exchanged for a token that lives some hours.
    Oauth2ClientCredentials {
        /// The token endpoint; it may hold `{variables}`.
        token_url: String,
        /// The scope to ask for.
        #[serde(default)]
        scope: Option<String>,
        /// How the id and the secret are sent.
        #[serde(default)]
        send: SendCredentials,
    },
}

/// How a client's id and secret are sent to the token endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SendCredentials {
    /// As `client_id` and `client_secret` in the form.
    #[default]
    Form,
    /// As `Authorization: Basic`.
    Basic,
}

/// Clauses that the provider wants in `$filter`; they may hold `{variables}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Filters {
    /// In every query: `OriginatingSystemName eq '{system}'`.
    pub every: Option<String>,
    /// Besides, in the queries of a first full sync only: `MlgCanView eq true`.
    pub initial: Option<String>,
}

/// What differs for one resource from the profile as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ResourceProfile {
    /// The key field, where `$metadata` does not say or says otherwise.
    pub key: Option<String>,
    /// The path below the service root, where it is not the resource's name:
    /// `Property/replication`.
    pub path: Option<String>,
    /// The path below the service root that lists keys and timestamps and nothing else, where
    /// the server has one: `Property/PropertyReplication()`.
    pub keys_path: Option<String>,
    /// Records fetched by key in one request of a `keylist` walk; 20 otherwise.
    pub keys_per_request: Option<usize>,
    /// The resource has no timestamp: it is read whole each time.
    pub full: bool,
    /// The timestamp field.
    pub cursor_field: Option<String>,
    /// The timestamp field that moves when photos change, where those do not move the other.
    pub photo_cursor: Option<String>,
    /// The walk.
    pub walk: Option<Walk>,
    /// Rows a page, at most.
    pub page_size: Option<u64>,
    /// Whether the server accepts `$orderby`.
    pub orderby: Option<bool>,
    /// Whether the server answers `$count=true`.
    pub count: Option<bool>,
    /// `$select` of every query.
    pub select: Option<String>,
    /// `$expand` of every query.
    pub expand: Option<String>,
    /// How the provider says that a row is gone.
    pub deletes: Option<Deletes>,
}

/// The rules for one resource: the profile with what differs for that resource applied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceRules {
    /// The entity set's name.
    pub resource: String,
    /// The path below the service root.
    pub path: String,
    /// The path of the list of keys and timestamps, where there is one.
    pub keys_path: Option<String>,
    /// Records fetched by key in one request of a `keylist` walk.
    pub keys_per_request: usize,
    /// The key field, when the profile knows better than `$metadata`.
    pub key: Option<String>,
    /// The timestamp field; `None` when the resource is read whole each time.
    pub cursor_field: Option<String>,
    /// The timestamp field that moves when photos change, where those do not move the other.
    pub photo_cursor: Option<String>,
    /// The walk.
    pub walk: Walk,
    /// Rows a page, at most, for a plain query.
    pub page_size: Option<u64>,
    /// Rows a page, at most, when nothing but keys and timestamps is selected.
    pub page_size_keys: Option<u64>,
    /// Whether the server accepts `$orderby`.
    pub orderby: bool,
    /// Whether the server answers `$count=true`.
    pub count: bool,
    /// `$select` of every query.
    pub select: Option<String>,
    /// `$expand` of every query.
    pub expand: Option<String>,
    /// How the provider says that a row is gone.
    pub deletes: Deletes,
}

/// Records fetched by key in one request, unless a profile says otherwise: the URL stays well
/// below the 2,048 bytes that some servers allow.
const KEYS_PER_REQUEST: usize = 20;

impl Profile {
    /// The names of the profiles that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The built-in profile of that name.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        Profile::from_toml(Profile::text(name)?, name)
    }

    /// The text of the built-in profile of that name, with its comments: what a profile of one's
    /// own starts from.
    pub fn text(name: &str) -> Result<&'static str, ConfigError> {
        let found = SHIPPED.iter().find(|(n, _)| *n == name);
        found.map(|(_, text)| *text).ok_or_else(|| {
            let known = Profile::names().map(str::to_owned).collect();
            let name = name.to_owned();
            ConfigError::UnknownProfile { name, known }
        })
    }

    /// Reads a profile; `origin` (a file name) is what an error names.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::Profile {
            origin: origin.to_owned(),
            reason,
        };
        let profile: Profile = toml::from_str(text).map_err(|e| wrong(in_line(text, &e)))?;
        profile.check().map_err(wrong)?;
        Ok(profile)
    }

    /// Reads a profile from a file of the user's own.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Profile::from_toml(&text, &origin),
            Err(error) => Err(ConfigError::Profile {
                origin,
                reason: error.to_string(),
            }),
        }
    }

    /// The rules for one resource, whether or not the profile names it.
    pub fn rules(&self, resource: &str) -> ResourceRules {
        let own = self.resources.get(resource).cloned().unwrap_or_default();
        let cursor_field = if own.full {
            None
        } else {
            Some(
                own.cursor_field
                    .unwrap_or_else(|| self.cursor.field.clone()),
            )
        };
        let expanded = self.page_size_expanded.filter(|_| own.expand.is_some());
        let page_size = own.page_size.or(expanded).or(self.page_size);
        ResourceRules {
            resource: resource.to_owned(),
            path: own.path.unwrap_or_else(|| resource.to_owned()),
            keys_path: own.keys_path,
            keys_per_request: own.keys_per_request.unwrap_or(KEYS_PER_REQUEST),
            key: own.key,
            cursor_field,
            photo_cursor: own.photo_cursor,
            walk: own.walk.unwrap_or(self.walk),
            page_size,
            page_size_keys: self.page_size_keys.or(page_size),
            orderby: own.orderby.unwrap_or(self.orderby),
            count: own.count.unwrap_or(self.count),
            select: own.select,
            expand: own.expand,
            deletes: own.deletes.unwrap_or_else(|| self.deletes.clone()),
        }
    }

    /// Gives a `{variable}` its value.
    pub fn set(&mut self, variable: &str, value: &str) -> Result<(), ConfigError> {
        match self.variables.get_mut(variable) {
            Some(slot) => value.clone_into(slot),
            None => {
                return Err(self.wrong(format!(
                    "there is no variable {variable:?}; it has {}",
                    list(self.variables.keys())
                )));
            }
        }
        Ok(())
    }

    /// The service root with its variables filled in, where the provider has one for all.
    pub fn service_root(&self) -> Result<Option<String>, ConfigError> {
        let fill = |text| self.fill(text, crate::url::encode_segment);
        self.base_url.as_deref().map(fill).transpose()
    }

    /// The token endpoint with its variables filled in, where tokens are had by client
    /// credentials.
    pub fn token_url(&self) -> Result<Option<String>, ConfigError> {
        match &self.auth {
            Auth::Bearer {} => Ok(None),
            Auth::Oauth2ClientCredentials { token_url, .. } => {
                self.fill(token_url, crate::url::encode_segment).map(Some)
            }
        }
    }

    /// The whole `$filter` of a query: the clauses the provider wants in every query, those of a
    /// first full sync if it is one, and `own`.
    pub fn filter(&self, own: Option<&str>, initial: bool) -> Result<Option<String>, ConfigError> {
        let quoted = |value: &str| value.replace('\'', "''");
        let wanted = [
            self.filters.every.as_deref(),
            self.filters.initial.as_deref().filter(|_| initial),
        ];
        let mut clauses = Vec::new();
        for clause in wanted.into_iter().flatten() {
            clauses.push(self.fill(clause, quoted)?);
        }
        clauses.extend(own.map(str::to_owned));
        Ok(match clauses.len() {
            0 | 1 => clauses.pop(),
            _ => Some(format!("({})", clauses.join(") and ("))),
        })
    }

    /// An enumeration literal as the provider wants it; `type_name` is qualified.
    pub fn enum_literal(&self, type_name: &str, member: &str) -> String {
        let member = member.replace('\'', "''");
        let short = type_name.rsplit('.').next().unwrap_or(type_name);
        match self.enum_literals {
            EnumLiterals::Qualified => format!("{type_name}'{member}'"),
            EnumLiterals::Short => format!("{short}'{member}'"),
            EnumLiterals::String => format!("'{member}'"),
        }
    }

    /// A timestamp literal with the digits the server keeps: UTC, rounded down.
    pub fn timestamp(&self, at: DateTime) -> String {
        let utc = DateTime {
            offset_minutes: 0,
            ..at
        };
        utc.format(self.cursor.fraction_digits, true)
    }

    fn wrong(&self, reason: String) -> ConfigError {
        ConfigError::Profile {
            origin: self.name.clone(),
            reason,
        }
    }

    /// Replaces each `{variable}` of a text by its value, quoted as the place wants it.
    fn fill(&self, text: &str, quote: impl Fn(&str) -> String) -> Result<String, ConfigError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, name, after)) = next_variable(rest) {
            out.push_str(before);
            match self.variables.get(name).filter(|v| !v.is_empty()) {
                Some(value) => out.push_str(&quote(value)),
                None => {
                    return Err(self.wrong(format!("the variable {name:?} needs a value")));
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What TOML cannot say: ranges, and names that must be declared.
    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("`name` is empty".to_owned());
        }
        if self.cursor.fraction_digits > 9 {
            return Err(format!(
                "`cursor.fraction_digits` is {}; a timestamp has 0 to 9",
                self.cursor.fraction_digits
            ));
        }
        let sizes = [self.page_size, self.page_size_expanded, self.page_size_keys];
        let own = self.resources.values().map(|r| r.page_size);
        if sizes.into_iter().chain(own).flatten().any(|n| n == 0) {
            return Err("a page size of 0 would fetch nothing".to_owned());
        }
        if self.walk == Walk::Keyset && !self.orderby {
            return Err("`walk = \"keyset\"` needs `orderby = true`".to_owned());
        }
        if self.walk == Walk::Keylist {
            return Err(
                "`walk = \"keylist\"` is for single resources, with `keys_path`".to_owned(),
            );
        }
        for (name, own) in &self.resources {
            let rules = self.rules(name);
            own.check(&rules)
                .map_err(|reason| format!("resources.{name}: {reason}"))?;
        }
        for (at, name) in self.sync.iter().enumerate() {
            if self.sync.iter().skip(at + 1).any(|other| other == name) {
                return Err(format!("`sync` names {name} twice"));
            }
        }
        self.quota.check()?;
        let media = self.media.quota.check();
        media.map_err(|reason| format!("media: {reason}"))?;
        self.check_variables()
    }

    fn check_variables(&self) -> Result<(), String> {
        let token_url = match &self.auth {
            Auth::Oauth2ClientCredentials { token_url, .. } => Some(token_url),
            Auth::Bearer {} => None,
        };
        let texts = [
            ("base_url", self.base_url.as_ref()),
            ("filters.every", self.filters.every.as_ref()),
            ("filters.initial", self.filters.initial.as_ref()),
            ("auth.token_url", token_url),
        ];
        for (place, text) in texts {
            let mut rest = text.map_or("", String::as_str);
            while let Some((_, name, after)) = next_variable(rest) {
                if !self.variables.contains_key(name) {
                    return Err(format!(
                        "`{place}` uses the variable {name:?}, which [variables] does not have"
                    ));
                }
                rest = after;
            }
        }
        Ok(())
    }
}

impl ResourceProfile {
    fn check(&self, rules: &ResourceRules) -> Result<(), String> {
        let keyset = rules.walk == Walk::Keyset;
        let keylist = rules.walk == Walk::Keylist;
        if keyset && !rules.orderby {
            return Err("`walk = \"keyset\"` needs `orderby = true`".to_owned());
        }
        if keylist && (rules.keys_path.is_none() || rules.key.is_none()) {
            return Err("`walk = \"keylist\"` needs `keys_path` and `key`".to_owned());
        }
        if keylist && rules.page_size.is_none() {
            // Its absence is what tells a request for single keys from a walk.
            return Err("`walk = \"keylist\"` needs a `page_size`".to_owned());
        }
        let fits = |n: usize| n > 0 && rules.page_size.is_none_or(|size| n as u64 <= size);
        if !fits(rules.keys_per_request) && (keylist || self.keys_per_request.is_some()) {
            return Err("`keys_per_request` is 1 to the page size".to_owned());
        }
        if self.full && self.cursor_field.is_some() {
            return Err("`full` and `cursor_field` exclude each other".to_owned());
        }
        Ok(())
    }
}

/// Where a mistake is, and what it is.
///
/// The line itself is not shown, nor what stands for a value in it: it may be a secret in the wrong
/// place.
fn in_line(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}: {}", without_values(error.message()))
}

/// A message of the TOML reader without the values that it quotes: "invalid type: string \"..\",
/// expected", "unknown variant `..`, expected". The names of fields stay.
///
/// For whoever reads a configuration in which a secret may stand in the wrong place.
pub fn without_values(message: &str) -> String {
    for (start, what) in [
        ("invalid type: ", "a value of the wrong type"),
        ("invalid value: ", "a wrong value"),
        ("unknown variant ", "a word that is not known here"),
    ] {
        if message.starts_with(start) {
            // The text of a value may hold this too; what was expected is at the end.
            return match message.rsplit_once(", expected ") {
                Some((_, expected)) => format!("{what}; expected {expected}"),
                None => what.to_owned(),
            };
        }
    }
    message.to_owned()
}

/// Splits a text at its first `{name}`.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(String::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_reads_and_is_named_as_its_file() {
        for name in Profile::names() {
            assert_eq!(Profile::named(name).unwrap().name, name);
        }
    }

    #[test]
    fn an_unknown_name_tells_the_known_ones() {
        let text = Profile::named("wfrlms").unwrap_err().to_string();
        assert!(
            text.contains("wfrlms") && text.contains("generic-reso"),
            "{text}"
        );
    }

    #[test]
    fn wfrmls_rules() {
        let profile = Profile::named("wfrmls").unwrap();
        let property = profile.rules("Property");
        assert_eq!(property.key.as_deref(), Some("ListingKeyNumeric"));
        assert_eq!(
            property.cursor_field.as_deref(),
            Some("ModificationTimestamp")
        );
        assert_eq!(property.walk, Walk::Keyset);
        assert_eq!(property.page_size, Some(200));
        let units = profile.rules("PropertyUnitTypes");
        assert_eq!(units.cursor_field, None);
        let deleted = profile.rules("Deleted");
        assert_eq!(deleted.walk, Walk::Nextlink);
        assert_eq!(deleted.cursor_field.as_deref(), Some("ts"));
        assert_eq!(
            profile.enum_literal("Odata.Models.StandardStatus", "Active"),
            "Odata.Models.StandardStatus'Active'"
        );
        assert_eq!(
            profile.timestamp(DateTime::parse("2020-07-30T08:55:07.999-06:00").unwrap()),
            "2020-07-30T14:55:07Z"
        );
    }

    /// The rules of the providers in the field table, as their profiles will write them.
    const OTHER: &str = r#"
        name = "other"
        base_url = "https://api.example.com/v2/{dataset}"
        walk = "nextlink"
        page_size = 5000
        page_size_expanded = 1000
        page_size_keys = 300000
        orderby = false
        enum_literals = "string"
        sync = ["Property"]
        query = { Replication = "true" }
        variables = { dataset = "", system = "o'hare" }
        [filters]
        every = "OriginatingSystemName eq '{system}'"
        initial = "MlgCanView eq true"
        [deletes]
        by = "flag"
        field = "MlgCanView"
        value = false
        [auth]
        kind = "bearer"
        [resources.Property]
        path = "Property/replication"
        page_size = 2000
        [resources.Member]
        expand = "Media"
        deletes = { by = "flag", field = "MlsStatus", value = "Delete" }
    "#;

    #[test]
    fn the_schema_holds_other_providers() {
        let mut profile = Profile::from_toml(OTHER, "other.toml").unwrap();
        assert_eq!(profile.rules("Property").path, "Property/replication");
        assert_eq!(profile.rules("Property").page_size, Some(2000));
        assert_eq!(profile.rules("Member").page_size, Some(1000));
        assert_eq!(profile.rules("Office").page_size, Some(5000));
        assert_eq!(profile.rules("Member").page_size_keys, Some(300_000));
        assert_eq!(
            profile
                .filter(Some("A eq 1 or B eq 2"), true)
                .unwrap()
                .unwrap(),
            "(OriginatingSystemName eq 'o''hare') and (MlgCanView eq true) and (A eq 1 or B eq 2)"
        );
        assert_eq!(
            profile.filter(None, false).unwrap().unwrap(),
            "OriginatingSystemName eq 'o''hare'"
        );
        let unset = profile.service_root().unwrap_err().to_string();
        assert!(unset.contains("dataset"), "{unset}");
        profile.set("dataset", "abor/x").unwrap();
        let root = profile.service_root().unwrap().unwrap();
        assert_eq!(root, "https://api.example.com/v2/abor%2Fx");
        assert!(profile.set("datasset", "x").is_err());
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        let good = include_str!("../profiles/generic-reso.toml");
        let canary = "s3cret-canary";
        for (from, to) in [
            ("walk = \"nextlink\"", "walk = \"CANARY\""),
            ("walk = \"nextlink\"", "walk = \"x, expected CANARY\""),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\npage_size = \"CANARY\"",
            ),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\norderby = \"CANARY\"",
            ),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\ntoken = \"CANARY\"",
            ),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\nuser_agent = \"CANARY",
            ),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\nuser_agent = CANARY",
            ),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\nquery = \"CANARY\"",
            ),
            (
                "walk = \"nextlink\"",
                "base_url = \"https://u:CANARY@{host}/\"\nwalk = \"nextlink\"",
            ),
            ("kind = \"bearer\"", "kind = \"CANARY\""),
            ("kind = \"bearer\"", "kind = \"bearer\"\ntoken = \"CANARY\""),
            ("kind = \"bearer\"", "CANARY"),
            ("by = \"reconcile\"", "by = \"CANARY\""),
            ("fraction_digits = 3", "fraction_digits = \"CANARY\""),
        ] {
            let text = good.replace(from, &to.replace("CANARY", canary));
            let error = Profile::from_toml(&text, "my.toml").unwrap_err();
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(!shown.contains(canary), "{to}: {shown}");
            assert!(!debug.contains(canary), "{to}: {debug}");
            assert!(shown.contains("my.toml"), "{to}: {shown}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let good = include_str!("../profiles/generic-reso.toml");
        for (from, to, expect) in [
            (
                "walk = \"nextlink\"",
                "walk = \"offset\"",
                "line 6: a word that is not known",
            ),
            ("paging = \"prefer\"", "pagging = \"prefer\"", "pagging"),
            (
                "by = \"reconcile\"",
                "by = \"magic\"",
                "expected one of `none`",
            ),
            (
                "by = \"reconcile\"",
                "by = \"reconcile\"\nfield = \"x\"",
                "field",
            ),
            ("by = \"reconcile\"", "by = \"feed\"", "resource"),
            (
                "kind = \"bearer\"",
                "kind = \"bearer\"\ntoken = \"x\"",
                "token",
            ),
            (
                "fraction_digits = 3",
                "fraction_digits = 10",
                "fraction_digits",
            ),
            (
                "walk = \"nextlink\"",
                "walk = \"nextlink\"\npage_size = 0",
                "page size",
            ),
            ("\"Member\", ", "\"Member\", \"Member\", ", "Member twice"),
            (
                "walk = \"nextlink\"",
                "walk = \"keyset\"\norderby = false",
                "orderby",
            ),
            (
                "[auth]",
                "[resources.A]\nwalk = \"keyset\"\norderby = false\n[auth]",
                "resources.A",
            ),
            ("walk =", "base_url = \"https://{host}/x\"\nwalk =", "host"),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good, "{from}");
            let error = Profile::from_toml(&text, "my.toml")
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("my.toml") && error.contains(expect),
                "{expect}: {error}"
            );
        }
    }
}
