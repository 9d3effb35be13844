//! Faults as data: everything that goes wrong with feeds, each with a name, and where it strikes.
//!
//! A [`Fault`] says what goes wrong; a [`Strike`] says when: it finds the page of a walk by its
//! number and spoils every answer to that page's request, retries included, until it is healed.

mod answers;
mod rows;

pub use answers::SLOW;

use std::sync::{Arc, Mutex};

use crate::dataset::Dataset;
use crate::http::{Request, Response};
use crate::options::{Alter, BeforePage, lock};

/// How a fault works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// On the wire: the answer does not come, or not whole.
    Wire,
    /// A whole answer with status 200 that is not the page it should be.
    Answer,
    /// Another status.
    Status,
    /// The continuation link.
    Link,
    /// The rows themselves change, or what is told of them.
    Rows,
    /// `$metadata`.
    Metadata,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident, $name:literal, $kind:ident;)*) => {
        /// What goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$fault),*];

            /// The name: `truncated-chunked`.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }

            /// How it works.
            pub fn kind(self) -> FaultKind {
                match self { $(Fault::$fault => FaultKind::$kind,)* }
            }
        }
    };
}

faults! {
    /// The connection is closed without an answer, and further ones are refused.
    Refused, "refused", Wire;
    /// The connection is closed without an answer.
    Closed, "closed", Wire;
    /// The connection is reset without an answer.
    Reset, "reset", Wire;
    /// The connection is reset in the middle of the body.
    ResetInBody, "reset-in-body", Wire;
    /// No byte comes for [`SLOW`](crate::SLOW).
    Stall, "stall", Wire;
    /// Half of the answer comes, then nothing for a while.
    StallInBody, "stall-in-body", Wire;
    /// The answer comes a few bytes at a time.
    SlowBody, "slow-body", Wire;
    /// The body is shorter than its Content-Length.
    TruncatedLength, "truncated-length", Wire;
    /// The body ends without its last chunk.
    TruncatedChunked, "truncated-chunked", Wire;
    /// The body ends in the middle, and the end of the connection is its end.
    TruncatedClose, "truncated-close", Wire;
    /// The gzip stream ends in the middle, its Content-Length right.
    TruncatedGzip, "truncated-gzip", Wire;
    /// The head ends in the middle.
    TruncatedHead, "truncated-head", Wire;
    /// A body said to be gzip that is not.
    NotGzip, "not-gzip", Wire;
    /// A few kilobytes that unpack to 9 MiB of spaces around a page.
    GzipBomb, "gzip-bomb", Wire;
    /// A head of a megabyte.
    HeaderFlood, "header-flood", Wire;
    /// Another protocol answers.
    NotHttp, "not-http", Wire;

    /// Half of the rows, no nextLink: valid, and not to be told from the last page.
    FewerRows, "fewer-rows", Answer;
    /// All rows but the last one, no nextLink.
    OneRowLess, "one-row-less", Answer;
    /// No rows, no nextLink.
    NoRows, "no-rows", Answer;
    /// All rows, and the nextLink is missing.
    LinkLost, "link-lost", Answer;
    /// The page before, again.
    StalePage, "stale-page", Answer;
    /// The page with each row twice.
    DuplicateRows, "duplicate-rows", Answer;
    /// A page of HTML.
    Html, "html", Answer;
    /// An Atom feed.
    Xml, "xml", Answer;
    /// An OData error with status 200.
    ErrorBody, "error-body", Answer;
    /// Half of the rows, then an OData error in the same object.
    ErrorAfterRows, "error-after-rows", Answer;
    /// No body.
    Empty, "empty", Answer;
    /// An object without `value`.
    NoValue, "no-value", Answer;
    /// `value` is null.
    ValueNull, "value-null", Answer;
    /// `value` is an object.
    ValueObject, "value-object", Answer;
    /// `value` is a string.
    ValueString, "value-string", Answer;
    /// The rows as a bare array.
    BareArray, "bare-array", Answer;
    /// `null`.
    BareNull, "bare-null", Answer;
    /// A byte order mark before the page.
    ByteOrderMark, "byte-order-mark", Answer;
    /// The first half of the JSON, its Content-Length right.
    HalfJson, "half-json", Answer;
    /// Text behind the JSON.
    TextAfterJson, "text-after-json", Answer;
    /// A byte that is not UTF-8.
    InvalidUtf8, "invalid-utf8", Answer;
    /// `NaN` for a price.
    NotANumber, "not-a-number", Answer;
    /// Numbers for rows.
    RowsAreNumbers, "rows-are-numbers", Answer;
    /// Nulls for rows.
    RowsAreNull, "rows-are-null", Answer;
    /// Rows without their key.
    KeysMissing, "keys-missing", Answer;
    /// One row of the page without its key.
    OneKeyMissing, "one-key-missing", Answer;
    /// Rows whose key is null.
    KeysNull, "keys-null", Answer;
    /// Rows whose key is an object.
    KeysAreObjects, "keys-are-objects", Answer;
    /// Rows of another resource.
    OtherResource, "other-resource", Answer;
    /// A field nested 2,000 deep.
    DeepNesting, "deep-nesting", Answer;

    /// 204, no content.
    Status204, "204", Status;
    /// A redirection within the server.
    Status301, "301", Status;
    /// A redirection to another host.
    RedirectElsewhere, "302-elsewhere", Status;
    /// Not modified, to a request without a condition.
    Status304, "304", Status;
    /// Bad request.
    Status400, "400", Status;
    /// The token is refused.
    Status401, "401", Status;
    /// Forbidden.
    Status403, "403", Status;
    /// Not found.
    Status404, "404", Status;
    /// Not found, as HTML.
    Status404Html, "404-html", Status;
    /// Request timeout.
    Status408, "408", Status;
    /// Gone.
    Status410, "410", Status;
    /// Too many requests, without a Retry-After (MLS Grid).
    Status429, "429", Status;
    /// Retry-After in seconds.
    RetryAfterSeconds, "429-seconds", Status;
    /// Retry-After as a date.
    RetryAfterDate, "429-date", Status;
    /// Retry-After as a date in the past.
    RetryAfterPast, "429-past", Status;
    /// Retry-After that is neither.
    RetryAfterGarbage, "429-garbage", Status;
    /// Retry-After of some thousand years.
    RetryAfterHuge, "429-huge", Status;
    /// Internal server error.
    Status500, "500", Status;
    /// Internal server error, as HTML.
    Status500Html, "500-html", Status;
    /// Not implemented.
    Status501, "501", Status;
    /// Bad gateway.
    Status502, "502", Status;
    /// Service unavailable, with a Retry-After.
    Status503, "503", Status;
    /// Gateway timeout (WFRMLS' `Media`).
    Status504, "504", Status;
    /// A status that no standard knows.
    Status520, "520", Status;
    /// The right page with status 500.
    RightPage500, "500-with-page", Status;

    /// The nextLink is the link of this page.
    LinkLoops, "link-loops", Link;
    /// The nextLink leads to another host.
    LinkElsewhere, "link-elsewhere", Link;
    /// The nextLink has the server's address as its user name, and another host.
    LinkDisguised, "link-disguised", Link;
    /// The nextLink is no URL.
    LinkGarbage, "link-garbage", Link;
    /// The nextLink is an empty string.
    LinkEmpty, "link-empty", Link;
    /// The nextLink is a number.
    LinkNumber, "link-number", Link;
    /// The nextLink is not accepted any more: 400.
    LinkExpired400, "link-expired-400", Link;
    /// The nextLink is not accepted any more: 410.
    LinkExpired410, "link-expired-410", Link;
    /// The nextLinks are relative to the service root, which is right.
    LinkRelative, "link-relative", Link;
    /// The nextLinks are percent-encoded as far as may be, which is right.
    LinkEncoded, "link-encoded", Link;

    /// Rows are edited while they are walked.
    RowsEdited, "rows-edited", Rows;
    /// Rows come while they are walked.
    RowsInserted, "rows-inserted", Rows;
    /// Rows are deleted while they are walked, and listed as deleted.
    RowsDeleted, "rows-deleted", Rows;
    /// Rows vanish while they are walked, without a word.
    RowsVanish, "rows-vanish", Rows;
    /// Many rows are edited within one second.
    Ties, "ties", Rows;
    /// Rows are committed with a stamp of ten minutes ago.
    LateCommits, "late-commits", Rows;
    /// Rows are committed with a stamp of last month.
    VeryLateCommits, "very-late-commits", Rows;
    /// Rows are edited and keep their stamp.
    SilentEdits, "silent-edits", Rows;
    /// Rows are stamped in the year 2099.
    FutureStamps, "future-stamps", Rows;
    /// Rows lose their stamp.
    StampsNull, "stamps-null", Rows;
    /// Every row is stamped anew, and nothing else changes.
    Restamped, "restamped", Rows;
    /// A third of the rows of each page is not shown to this client.
    RowsWithheld, "rows-withheld", Rows;
    /// A field is not shown to this client.
    FieldWithheld, "field-withheld", Rows;
    /// Integers come as decimals, and as strings.
    TypeDrift, "type-drift", Rows;
    /// The server's Date is an hour ahead of its stamps.
    ClockAhead, "clock-ahead", Rows;
    /// The server's Date is an hour behind its stamps.
    ClockBehind, "clock-behind", Rows;
    /// The server sends no Date.
    NoDate, "no-date", Rows;
    /// `$top` is the total of a query: there is never a nextLink behind it.
    TopIsTotal, "top-is-total", Rows;
    /// The feed counts more rows than it gives.
    CountTooHigh, "count-too-high", Rows;
    /// The feed counts fewer rows than it gives.
    CountTooLow, "count-too-low", Rows;
    /// The count is not a number.
    CountGarbage, "count-garbage", Rows;

    /// `$metadata` ends in the middle.
    MetadataTruncated, "metadata-truncated", Metadata;
    /// `$metadata` is a page of HTML.
    MetadataHtml, "metadata-html", Metadata;
    /// `$metadata` is answered with 500.
    Metadata500, "metadata-500", Metadata;
    /// A field has another type in `$metadata`.
    MetadataRetyped, "metadata-retyped", Metadata;
    /// A field has another name in `$metadata`, and the rows have the old one.
    MetadataRenamed, "metadata-renamed", Metadata;
    /// A field is in the rows and not in `$metadata`.
    MetadataWithoutField, "metadata-without-field", Metadata;
}

impl Fault {
    /// The fault of that name.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// Whether it takes a client with short time limits to notice it in a short time.
    pub fn is_slow(self) -> bool {
        matches!(self, Fault::Stall | Fault::StallInBody | Fault::SlowBody)
    }

    /// Whether it strikes one page, or every page from there on.
    fn lasts(self) -> bool {
        use Fault as F;
        let right_links = matches!(self, F::LinkRelative | F::LinkEncoded);
        right_links || self.kind() == FaultKind::Rows
    }
}

/// What the requests of a walk look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Walked {
    /// Any request.
    #[default]
    Any,
    /// Whole records, all of them.
    All,
    /// Whole records, those stamped since some time.
    Since,
    /// Keys and stamps only.
    Keys,
}

impl Walked {
    fn fits(self, request: &Request) -> bool {
        let options = request.options();
        let option = |name: &str| options.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        let since = option("$filter").is_some_and(|f| f.contains("ModificationTimestamp ge"));
        let keys = option("$select").is_some();
        match self {
            Walked::Any => true,
            Walked::All => !since && !keys,
            Walked::Since => since && !keys,
            Walked::Keys => keys,
        }
    }
}

/// Where a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Requests of this entity set; of all, when it is empty.
    pub resource: String,
    /// Requests of such walks.
    pub walk: Walked,
    /// The page of that number, from 0, among those requests. A retry counts no page.
    pub page: u64,
}

impl Place {
    /// A page of any entity set.
    pub fn page(page: u64) -> Self {
        Place {
            resource: String::new(),
            walk: Walked::Any,
            page,
        }
    }

    fn fits(&self, request: &Request) -> bool {
        let path = request.path();
        let set = path.rsplit('/').next().unwrap_or_default();
        let named = self.resource.is_empty() || set == self.resource;
        named && set != "$metadata" && self.walk.fits(request)
    }
}

/// A fault at its place, in the hands of a server.
#[derive(Debug)]
pub struct Strike {
    fault: Fault,
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    healed: bool,
    /// Pages met so far, and the request for the latest.
    pages: u64,
    latest: String,
    /// The request that the fault strikes, once it came.
    target: Option<String>,
    struck: u64,
    /// The path and the body of the page before.
    before: (String, Vec<u8>),
}

impl Strike {
    /// A fault that strikes at `place`.
    pub fn new(fault: Fault, place: Place) -> Arc<Self> {
        Arc::new(Strike {
            fault,
            place,
            state: Mutex::default(),
        })
    }

    /// Ends the fault.
    pub fn heal(&self) {
        lock(&self.state).healed = true;
    }

    /// How many answers were spoiled, or how often rows were changed.
    pub fn struck(&self) -> u64 {
        lock(&self.state).struck
    }

    /// How many pages were asked for at places like this, retries not counted.
    pub fn pages(&self) -> u64 {
        lock(&self.state).pages
    }

    /// The hook that spoils answers. The server must not compress them itself.
    pub fn alter(self: &Arc<Self>) -> Alter {
        let strike = Arc::clone(self);
        Box::new(move |request, response| strike.answer(request, response))
    }

    /// The hook that changes rows.
    pub fn before_page(self: &Arc<Self>, rows: Arc<Mutex<Dataset>>) -> BeforePage {
        let strike = Arc::clone(self);
        Box::new(move |_| strike.change_rows(&mut lock(&rows)))
    }

    /// Changes the rows, when it is time and the fault is one of them.
    pub fn change_rows(&self, rows: &mut Dataset) {
        let mut state = lock(&self.state);
        let due = !state.healed && state.pages >= self.place.page;
        // An edit for each page that could come; a walk must not race with an endless feed.
        if due && state.struck < 12 && rows::disturb(self.fault, rows, state.struck) {
            state.struck += 1;
        }
    }

    /// What is sent for the true answer to a request.
    pub fn answer(&self, request: &Request, mut response: Response) -> Response {
        let mut state = lock(&self.state);
        if self.fault.kind() == FaultKind::Metadata {
            if !state.healed && request.path().ends_with("$metadata") {
                state.struck += 1;
                answers::spoil_metadata(self.fault, &mut response);
            }
            return response;
        }
        if !self.place.fits(request) {
            return response;
        }
        if state.latest != request.target {
            state.latest.clone_from(&request.target);
            let due = state.pages == self.place.page;
            if due || self.fault.lasts() && state.pages > self.place.page {
                state.target = Some(request.target.clone());
            }
            state.pages += 1;
        }
        let here = state.target.as_ref() == Some(&request.target);
        let true_body = (request.path(), response.body.clone());
        if here && !state.healed {
            let (path, body) = std::mem::take(&mut state.before);
            let before = if path == request.path() {
                body
            } else {
                Vec::new()
            };
            if answers::spoil(self.fault, request, &mut response, &before) {
                state.struck += 1;
            }
        }
        state.before = true_body;
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_fault_has_one_name() {
        let names: BTreeSet<&str> = Fault::ALL.iter().map(|f| f.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        assert!(Fault::ALL.len() >= 90);
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.name()), Some(*fault));
        }
        assert_eq!(Fault::named("none"), None);
    }

    fn get(target: &str) -> Request {
        Request {
            number: 0,
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_fault_strikes_its_page_again_and_no_other() {
        let place = Place {
            resource: "Property".to_owned(),
            walk: Walked::All,
            page: 1,
        };
        let strike = Strike::new(Fault::Status503, place);
        let page = || Response::new(200, "application/json", "{\"value\":[]}");
        let status = |target: &str| strike.answer(&get(target), page()).status;
        assert_eq!(status("/odata/Property?$top=1"), 200);
        assert_eq!(status("/odata/Member?$top=1"), 200);
        assert_eq!(status("/odata/Property?$select=ListingKey"), 200);
        assert_eq!(status("/odata/Property?$filter=ListingKey%20gt%201"), 503);
        assert_eq!(status("/odata/Property?$filter=ListingKey%20gt%201"), 503);
        assert_eq!(status("/odata/Property?$filter=ListingKey%20gt%202"), 200);
        assert_eq!((strike.pages(), strike.struck()), (3, 2));
        strike.heal();
        assert_eq!(status("/odata/Property?$filter=ListingKey%20gt%201"), 200);
    }
}
