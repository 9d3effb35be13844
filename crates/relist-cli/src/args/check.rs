//! What checks a store, and what checks a feed.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Make a damaged store anew of what can be read of it, and say which records to fetch again
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The resource to try them on [default: the first of the profile's]
    pub(crate) resource: Option<String>,
    /// Print a built-in profile, to start one of your own from, and ask the feed nothing
    #[arg(long, value_name = "NAME", conflicts_with = "resource")]
    pub(crate) print_profile: Option<String>,
}
