//! From a profile's rules to the engine's: a [`Policy`] for one resource.

use relist::ingest::{DeletedFeed, GoneMark};
use relist::sync::{EventFeed, Policy, WalkKind};

use crate::error::ConfigError;
use crate::profile::{Deletes, FlagValue, Paging, Profile, Walk};

impl Profile {
    /// How one resource is synced by this profile.
    ///
    /// The clauses that every query must have are not in it: [`WebApi`](crate::WebApi) adds them to
    /// each request itself.
    ///
    /// # Errors
    /// [`ConfigError::Profile`] when a variable of the first sync's filter has no value.
    pub fn policy(&self, resource: &str) -> Result<Policy, ConfigError> {
        let rules = self.rules(resource);
        let mut initial = self.clone();
        initial.filters.every = None;
        Ok(Policy {
            key_field: rules.key,
            walk: match rules.walk {
                Walk::Keyset => WalkKind::Keyset,
                // The client itself turns a list of keys into a walk along links.
                Walk::Nextlink | Walk::Keylist => WalkKind::NextLink,
            },
            page_size: rules.page_size,
            page_size_keys: rules.page_size_keys,
            // The client says it in `$top` where the server reads that as the size of a page.
            prefer_page_size: self.paging != Paging::Top,
            cursor_field: rules.cursor_field,
            photo_cursor: rules.photo_cursor,
            overlap_seconds: self.cursor.overlap_seconds,
            fraction_digits: self.cursor.fraction_digits,
            events: event_feed(&rules.deletes),
            gone: gone_mark(&rules.deletes),
            gone_visible_days: visible_days(&rules.deletes),
            deletes: deleted_feed(rules.deletes),
            filter: None,
            initial_filter: initial.filter(None, true)?,
            select: rules.select,
            expand: rules.expand,
            orderby: rules.orderby,
        })
    }
}

fn gone_mark(deletes: &Deletes) -> Option<GoneMark> {
    let Deletes::Flag { field, value, .. } = deletes else {
        return None;
    };
    let value = match value {
        FlagValue::Bool(value) => value.to_string(),
        FlagValue::Int(value) => value.to_string(),
        FlagValue::String(value) => value.clone(),
    };
    Some(GoneMark {
        field: field.clone(),
        value,
    })
}

fn visible_days(deletes: &Deletes) -> Option<u32> {
    match deletes {
        Deletes::Flag { visible_days, .. } => *visible_days,
        _ => None,
    }
}

fn event_feed(deletes: &Deletes) -> Option<EventFeed> {
    match deletes {
        Deletes::Events {
            resource,
            sequence_field,
            resource_field,
            key_field,
        } => Some(EventFeed {
            resource: resource.clone(),
            sequence_field: sequence_field.clone(),
            resource_field: resource_field.clone(),
            key_field: key_field.clone(),
        }),
        _ => None,
    }
}

fn deleted_feed(deletes: Deletes) -> Option<DeletedFeed> {
    match deletes {
        Deletes::Feed {
            resource,
            resource_field,
            key_field,
            time_field,
        } => Some(DeletedFeed {
            resource: resource.into(),
            resource_field: resource_field.into(),
            key_field: key_field.into(),
            time_field: time_field.into(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wfrmls_is_walked_by_key_and_says_what_was_deleted() {
        let policy = Profile::named("wfrmls")
            .unwrap()
            .policy("Property")
            .unwrap();
        assert_eq!(policy.key_field.as_deref(), Some("ListingKeyNumeric"));
        assert_eq!(policy.walk, WalkKind::Keyset);
        assert_eq!(policy.page_size, Some(200));
        assert!(!policy.prefer_page_size);
        assert_eq!(policy.deletes, Some(DeletedFeed::WFRMLS));
        assert_eq!((policy.filter, policy.initial_filter), (None, None));
    }

    #[test]
    fn a_resource_without_stamps_is_read_whole() {
        let profile = Profile::named("wfrmls").unwrap();
        let policy = profile.policy("PropertyUnitTypes").unwrap();
        assert_eq!(policy.cursor_field, None);
    }

    #[test]
    fn the_clause_of_a_first_sync_stands_alone() {
        let mut profile = Profile::named("generic-reso").unwrap();
        profile.filters.every = Some("OriginatingSystemName eq 'x'".to_owned());
        profile.filters.initial = Some("MlgCanView eq true".to_owned());
        let policy = profile.policy("Property").unwrap();
        assert_eq!(policy.walk, WalkKind::NextLink);
        assert_eq!(policy.initial_filter.as_deref(), Some("MlgCanView eq true"));
        assert_eq!(policy.filter, None);
        assert_eq!(policy.deletes, None);
    }

    #[test]
    fn events_are_followed_by_the_names_of_rcp_27() {
        let profile = Profile::named("entity-event").unwrap();
        let policy = profile.policy("Property").unwrap();
        assert_eq!(policy.events, Some(EventFeed::default()));
    }

    #[test]
    fn how_long_a_deletion_is_shown_is_the_profile_s() {
        let mut profile = Profile::named("mlsgrid").unwrap();
        profile
            .variables
            .insert("system".to_owned(), "x".to_owned());
        let policy = profile.policy("Property").unwrap();
        assert_eq!(policy.gone_visible_days, Some(7));
    }

    #[test]
    fn a_flag_in_the_record_is_a_mark() {
        let mut profile = Profile::named("generic-reso").unwrap();
        profile.deletes = Deletes::Flag {
            field: "MlgCanView".to_owned(),
            value: FlagValue::Bool(false),
            visible_days: None,
        };
        let policy = profile.policy("Property").unwrap();
        assert_eq!(policy.gone_visible_days, None);
        let mark = policy.gone.unwrap();
        assert_eq!(
            (mark.field.as_str(), mark.value.as_str()),
            ("MlgCanView", "false")
        );
    }
}
