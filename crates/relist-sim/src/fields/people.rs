//! The fields of Member and Office.

use super::{
    Kind::{Bool, Int, One, Str, Timestamp},
    bool, columns, int, int_str,
    listing::SYSTEM,
    phone, quoted, str, timestamp,
};
use crate::places::{City, city_at, total_weight};
use crate::rng::{below, pick, roll};
use crate::state::{Member, Office};
use crate::text;
use crate::words;

/// A member with its office.
pub(crate) struct MemberView<'a> {
    pub(crate) member: &'a Member,
    pub(crate) office: &'a Office,
}

/// An office.
pub(crate) struct OfficeView<'a> {
    pub(crate) office: &'a Office,
}

pub(super) fn first_name(seed: u64) -> &'static str {
    pick(roll(seed, 2), words::FIRST_NAMES)
}

pub(super) fn last_name(seed: u64) -> &'static str {
    pick(roll(seed, 3), words::LAST_NAMES)
}

pub(super) fn full_name(out: &mut Vec<u8>, seed: u64) {
    quoted(out, |out| {
        for part in [first_name(seed), " ", last_name(seed)] {
            text::escaped(out, part);
        }
    });
}

pub(super) fn license(out: &mut Vec<u8>, seed: u64) {
    quoted(out, |out| {
        int(out, 5_000_000 + below(roll(seed, 4), 8_000_000));
        text::escaped(out, "-SA00");
    });
}

pub(super) fn office_name(seed: u64) -> &'static str {
    pick(roll(seed, 2), words::OFFICE_NAMES)
}

fn city(seed: u64) -> &'static City {
    city_at(below(roll(seed, 5), total_weight()))
}

fn address(out: &mut Vec<u8>, seed: u64) {
    quoted(out, |out| {
        int(out, 10 + below(roll(seed, 6), 9_000));
        text::escaped(out, " S ");
        text::escaped(out, pick(roll(seed, 7), words::STREET_NAMES));
        text::escaped(out, " STE ");
        int(out, 100 + below(roll(seed, 8), 300));
    });
}

columns! {
    /// Member, in the order of its JSON.
    MEMBER of MemberView:
    "MemberKeyNumeric" Int, |v, o| int(o, v.member.key);
    "OfficeKeyNumeric" Int, |v, o| int(o, v.office.key);
    "MemberAddress1" Str, |v, o| address(o, v.office.seed);
    "MemberCity" Str, |v, o| str(o, city(v.office.seed).name);
    "MemberFirstName" Str, |v, o| str(o, first_name(v.member.seed));
    "MemberFullName" Str, |v, o| full_name(o, v.member.seed);
    "MemberKey" Str, |v, o| int_str(o, v.member.key);
    "MemberLastName" Str, |v, o| str(o, last_name(v.member.seed));
    "MemberMlsId" Str, |v, o| int_str(o, v.member.key);
    "MemberMobilePhone" Str, |v, o|
        phone(o, roll(v.member.seed, 100 + u64::from(v.member.phone)));
    "MemberOfficePhone" Str, |v, o| phone(o, roll(v.office.seed, 1));
    "MemberPostalCode" Str, |v, o| str(o, city(v.office.seed).postal_code);
    "MemberPreferredPhone" Str, |v, o|
        phone(o, roll(v.member.seed, 100 + u64::from(v.member.phone)));
    "MemberStateLicense" Str, |v, o| license(o, v.member.seed);
    "OfficeKey" Str, |v, o| int_str(o, v.office.key);
    "OfficeMlsId" Str, |v, o| int_str(o, v.office.key);
    "OfficeName" Str, |v, o| str(o, office_name(v.office.seed));
    "OriginatingSystemName" Str, |_, o| str(o, SYSTEM);
    "MemberMlsAccessYN" Bool, |v, o| bool(o, v.member.active);
    "ModificationTimestamp" Timestamp, |v, o| timestamp(o, v.member.modified);
    "OriginalEntryTimestamp" Timestamp, |v, o| timestamp(o, v.member.entered);
    "MemberAOR" One("AOR"), |v, o| str(o, city(v.office.seed).association);
    "MemberCountry" One("Country"), |_, o| str(o, "US");
    "MemberStateLicenseState" One("StateOrProvince"), |_, o| str(o, "UT");
    "MemberStatus" One("MemberStatus"), |v, o|
        str(o, if v.member.active { "Active" } else { "Inactive" });
    "MemberType" One("MemberType"), |v, o| str(o, pick(roll(v.member.seed, 9),
        &["MLS Only Salesperson", "MLS Only Salesperson", "MLS Only Broker"]));
}

columns! {
    /// Office, in the order of its JSON.
    OFFICE of OfficeView:
    "OfficeKeyNumeric" Int, |v, o| int(o, v.office.key);
    "MainOfficeKeyNumeric" Int, |v, o| int(o, v.office.key);
    "MainOfficeMlsId" Str, |v, o| int_str(o, v.office.key);
    "OfficeAddress1" Str, |v, o| address(o, v.office.seed);
    "OfficeCity" Str, |v, o| str(o, city(v.office.seed).name);
    "OfficeKey" Str, |v, o| int_str(o, v.office.key);
    "OfficeMlsId" Str, |v, o| int_str(o, v.office.key);
    "OfficeName" Str, |v, o| str(o, office_name(v.office.seed));
    "OfficePhone" Str, |v, o| phone(o, roll(v.office.seed, 1));
    "OfficePostalCode" Str, |v, o| str(o, city(v.office.seed).postal_code);
    "OriginatingSystemName" Str, |_, o| str(o, SYSTEM);
    "ModificationTimestamp" Timestamp, |v, o| timestamp(o, v.office.modified);
    "OriginalEntryTimestamp" Timestamp, |v, o| timestamp(o, v.office.entered);
    "OfficeBranchType" One("OfficeBranchType"), |_, o| str(o, "Main");
    "OfficeCountyOrParish" One("CountyOrParish"), |v, o| str(o, city(v.office.seed).county);
    "OfficeStateOrProvince" One("StateOrProvince"), |_, o| str(o, "UT");
    "OfficeStatus" One("OfficeStatus"), |_, o| str(o, "Active");
}
