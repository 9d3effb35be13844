//! Matching stored lookup values against members of an enumeration.
//!
//! A feed may send a member's name (`ActiveUnderContract`) or its display text (`Active Under
//! Contract`), and a query may use either. Both are tried; where neither is known for certain,
//! letters and digits alone decide, unless that would confuse two members.

use crate::schema::EnumType;
use crate::value::Value;

/// A member to look for: all the ways it may be spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    spellings: Vec<String>,
    /// Whether letters and digits alone may decide.
    loose: bool,
}

impl Member {
    /// A text that is spelled in one way only.
    pub(super) fn exact(text: &str) -> Member {
        Member {
            spellings: vec![text.to_owned()],
            loose: false,
        }
    }

    /// A member of an enumeration that no schema declares.
    pub(super) fn undeclared(text: &str) -> Member {
        Member {
            spellings: vec![text.to_owned()],
            loose: text.chars().any(char::is_alphanumeric),
        }
    }

    /// The member of a declared enumeration that `text` names: by name, display text, number, or
    /// the letters and digits of either.
    pub(super) fn declared(ty: &EnumType, text: &str) -> Option<Member> {
        let spells =
            |m: &&crate::schema::EnumMember| m.name == text || m.display.as_deref() == Some(text);
        let numbered = || {
            let number: i64 = text.parse().ok()?;
            ty.members.iter().find(|m| m.value == number)
        };
        let loosely = || {
            let mut found = ty.members.iter().filter(|m| {
                let display = m.display.as_deref();
                same_letters(&m.name, text) || display.is_some_and(|d| same_letters(d, text))
            });
            let first = found.next();
            first.filter(|_| found.next().is_none())
        };
        let by_name = ty.members.iter().find(spells);
        let member = by_name.or_else(numbered).or_else(loosely)?;
        let mut spellings = vec![member.name.clone()];
        spellings.extend(member.display.clone().filter(|d| *d != member.name));
        let others = ty.members.iter().filter(|m| m.name != member.name);
        let confused = others
            .flat_map(|m| std::iter::once(&m.name).chain(&m.display))
            .any(|other| spellings.iter().any(|own| same_letters(own, other)));
        Some(Member {
            spellings,
            loose: !confused,
        })
    }

    /// Whether a stored text spells the member.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.spellings.iter().any(|s| s == text)
            || (self.loose && self.spellings.iter().any(|s| same_letters(s, text)))
    }

    /// The spellings that are certain.
    pub(super) fn spellings(&self) -> &[String] {
        &self.spellings
    }
}

/// Whether two texts have the same letters and digits (one at least), whatever is between them.
fn same_letters(a: &str, b: &str) -> bool {
    let keep = |c: &char| c.is_alphanumeric();
    a.chars().any(char::is_alphanumeric) && a.chars().filter(keep).eq(b.chars().filter(keep))
}

/// What is asked of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookupTest {
    /// A single value spells one of these members.
    OneOf(Vec<Member>),
    /// A list holds exactly the members of one of these sets.
    Sets(Vec<Vec<Member>>),
    /// A single value or list holds all of these members.
    Has(Vec<Member>),
}

impl LookupTest {
    /// The answer for a value; `None` (unknown) only for `has` of null.
    pub(super) fn test(&self, value: &Value<'_>) -> Option<bool> {
        match (self, value) {
            (LookupTest::Has(_), Value::Null) => None,
            (LookupTest::OneOf(members), Value::String(text)) => {
                Some(members.iter().any(|m| m.matches(text)))
            }
            // A field declared single that came as a list of one.
            (LookupTest::OneOf(members), Value::StringList(items)) => {
                Some(match items.as_slice() {
                    [one] => members.iter().any(|m| m.matches(one)),
                    _ => false,
                })
            }
            (LookupTest::Sets(sets), Value::String(text)) => Some(sets.iter().any(|set| {
                matches!(set.as_slice(), [one] if one.matches(text))
                    || equal_sets(set, &parts(text))
            })),
            (LookupTest::Sets(sets), Value::StringList(items)) => Some(
                sets.iter()
                    .any(|set| equal_sets(set, &items.iter().map(AsRef::as_ref))),
            ),
            (LookupTest::Has(members), Value::String(text)) => Some(
                members
                    .iter()
                    .all(|m| m.matches(text) || parts(text).any(|part| m.matches(part))),
            ),
            (LookupTest::Has(members), Value::StringList(items)) => Some(
                members
                    .iter()
                    .all(|m| items.iter().any(|item| m.matches(item))),
            ),
            _ => Some(false),
        }
    }
}

/// The members of a list sent as one string, joined by commas; none in an empty string.
fn parts(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(',').map(str::trim).filter(|p| !p.is_empty())
}

fn equal_sets<'v>(set: &[Member], items: &(impl Iterator<Item = &'v str> + Clone)) -> bool {
    let known = |item: &str| set.iter().any(|m| m.matches(item));
    let held = |m: &Member| items.clone().any(|item| m.matches(item));
    set.iter().all(held) && items.clone().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::EnumMember;

    fn ty(members: &[(&str, Option<&str>)]) -> EnumType {
        let member = |(i, (name, display)): (usize, &(&str, Option<&str>))| EnumMember {
            name: (*name).to_owned(),
            value: 1 << i,
            display: display.map(str::to_owned),
        };
        EnumType {
            name: "Odata.Models.T".to_owned(),
            is_flags: false,
            members: members.iter().enumerate().map(member).collect(),
        }
    }

    #[test]
    fn either_spelling_finds_either() {
        let ty = ty(&[
            ("ActiveUnderContract", Some("Active Under Contract")),
            ("ComingSoon", None),
            ("_4Units", Some("> 4 Units")),
        ]);
        for (asked, stored) in [
            ("ActiveUnderContract", "Active Under Contract"),
            ("Active Under Contract", "ActiveUnderContract"),
            ("Coming Soon", "ComingSoon"),
            ("ComingSoon", "Coming Soon"),
            ("_4Units", "> 4 Units"),
            ("> 4 Units", "_4Units"),
            ("2", "Coming Soon"),
        ] {
            let member = Member::declared(&ty, asked).unwrap();
            assert!(member.matches(stored), "{asked} {stored}");
            assert!(!member.matches("Active"), "{asked}");
        }
        assert!(Member::declared(&ty, "Sold").is_none());
    }

    #[test]
    fn members_that_differ_in_signs_only_are_kept_apart() {
        let ty = ty(&[
            ("_3", Some("3")),
            ("_3plus", Some("3+")),
            ("Less", Some("-")),
        ]);
        let three = Member::declared(&ty, "3").unwrap();
        assert!(three.matches("3") && !three.matches("3plus"));
        let ty = self::ty(&[("A1", Some("3")), ("A2", Some("3+"))]);
        let three = Member::declared(&ty, "3").unwrap();
        assert!(three.matches("3") && three.matches("A1") && !three.matches("3+"));
        let plus = Member::declared(&ty, "A2").unwrap();
        assert!(plus.matches("3+") && !plus.matches("3"));
    }

    #[test]
    fn lists_and_joined_strings() {
        let has = LookupTest::Has(vec![Member::exact("A"), Member::exact("B")]);
        let list =
            |items: &[&'static str]| Value::StringList(items.iter().map(|i| (*i).into()).collect());
        assert_eq!(has.test(&list(&["B", "C", "A"])), Some(true));
        assert_eq!(has.test(&list(&["B"])), Some(false));
        assert_eq!(has.test(&Value::str("A, B")), Some(true));
        assert_eq!(has.test(&Value::Null), None);
        let sets = LookupTest::Sets(vec![vec![Member::exact("A"), Member::exact("B")]]);
        assert_eq!(sets.test(&list(&["B", "A"])), Some(true));
        assert_eq!(sets.test(&list(&["B", "A", "C"])), Some(false));
        let none = LookupTest::Sets(vec![Vec::new()]);
        assert_eq!(none.test(&list(&[])), Some(true));
        assert_eq!(none.test(&Value::str("")), Some(true));
        assert_eq!(none.test(&Value::Null), Some(false));
    }
}
