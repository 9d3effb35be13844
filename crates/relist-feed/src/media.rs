//! What a provider says of its photos, as data.
//!
//! Nothing here fetches: what does so reads these rules.

use serde::Deserialize;

/// Where photos are, what tells that they changed, and how their files are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MediaRules {
    /// How the media of one record are asked for, where they are not in the store, or where a URL
    /// of theirs is used up.
    pub via: MediaVia,
    /// The listing's timestamp that moves when its photos change; it may be the only one that
    /// does.
    pub cursor_field: String,
    /// The listing's field that counts its photos: an empty list of media beside a count above 0
    /// is no evidence that they are gone.
    pub count_field: String,
    /// The entity set of media, also where it is not asked directly.
    pub resource: String,
    /// Its field that holds the key of the record that a medium is of.
    pub record_field: String,
    /// The navigation property of a listing that leads to its media.
    pub navigation: String,
    /// The media's field with the file's URL.
    pub url_field: String,
    /// For how many seconds a URL can be used after it was listed, where it expires.
    pub url_seconds: Option<u64>,
    /// Whether a URL can be used only once.
    pub single_use: bool,
    /// The `User-Agent` for requests of files, where the provider wants its own.
    ///
    /// `{token}` in it is the token. It goes to `user_agent_hosts` and to no other host.
    pub user_agent: Option<String>,
    /// The hosts that the `User-Agent` is for: `media.example.com`, `.example.com` for all below.
    pub user_agent_hosts: Vec<String>,
    /// The only hosts that files are fetched from, if there are any.
    pub hosts: Vec<String>,
    /// How many files the provider lets through; its windows are apart from those of the API.
    pub quota: crate::quota::QuotaRules,
}

/// How the media of one record are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MediaVia {
    /// By `$expand` on the record: `Property(123)?$expand=Media`.
    #[default]
    Expand,
    /// In the record itself, whether asked for or not: `Property(123)`.
    Inline,
    /// By the record's navigation property: `Property(123)/Media`.
    Navigation,
    /// By a query of the entity set of media: `Media?$filter=ResourceRecordKey eq '123'`.
    Resource,
}

impl Default for MediaRules {
    /// RESO's names, and URLs that stay good.
    fn default() -> Self {
        MediaRules {
            via: MediaVia::default(),
            cursor_field: "PhotosChangeTimestamp".to_owned(),
            count_field: "PhotosCount".to_owned(),
            resource: "Media".to_owned(),
            record_field: "ResourceRecordKey".to_owned(),
            navigation: "Media".to_owned(),
            url_field: "MediaURL".to_owned(),
            url_seconds: None,
            single_use: false,
            user_agent: None,
            user_agent_hosts: Vec::new(),
            hosts: Vec::new(),
            quota: crate::quota::QuotaRules::default(),
        }
    }
}
