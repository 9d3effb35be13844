//! Rules: what a watcher looks for, as data.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::Operation;
use crate::value::Decimal;

/// The resource a rule is about when it names none.
const PROPERTY: &str = "Property";
/// The field of a listing's status (RESO Data Dictionary).
pub(super) const STANDARD_STATUS: &str = "StandardStatus";
/// The field of a listing's price (RESO Data Dictionary).
const LIST_PRICE: &str = "ListPrice";
/// The longest name.
const MAX_NAME: usize = 100;

/// What a watcher looks for.
///
/// In a configuration it is a table, `on` says the kind:
///
/// ```toml
/// [[watch.rule]]
/// name = "price cut"
/// on = "price-drop"
/// percent = 5
/// filter = "City eq 'Provo'"
/// ```
///
/// On a command line it is a text, which [`FromStr`] reads: `price-drop:5`,
/// `transition:Active->Pending|Closed`, `back-on-market`, `field:ListPrice,PublicRemarks`,
/// `insert`, `delete`, `relist`; each may end with another resource than Property: `insert@Office`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RuleText")]
pub struct Rule {
    /// Its name, which its events carry.
    pub name: String,
    /// The resource it is about.
    pub resource: String,
    /// What happens.
    pub condition: Condition,
    /// An OData `$filter` on the record after the change; on the last version, where it is gone.
    pub filter: Option<String>,
}

/// What must happen to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A field goes from one of these values to one of those; an empty list is any value. Lookup
    /// values are the same when their letters and digits are, so `ActiveUnderContract` is `Active
    /// Under Contract`.
    Transition {
        /// The field, StandardStatus unless said.
        field: String,
        /// The values before.
        from: Vec<String>,
        /// The values after.
        to: Vec<String>,
    },
    /// A number falls by at least so many percent of what it was.
    PriceDrop {
        /// The field, ListPrice unless said.
        field: String,
        /// How many percent, more than 0.
        percent: Decimal,
    },
    /// StandardStatus becomes Active again, or a deleted listing comes back as Active. A listing
    /// that becomes Active for the first time (from Coming Soon, Incomplete or nothing) is not.
    BackOnMarket,
    /// One of these fields has another value.
    FieldChanged {
        /// The fields; none is any.
        fields: Vec<String>,
    },
    /// The record was inserted, deleted or relisted.
    Operation(Operation),
}

impl Condition {
    /// The fields it looks at; empty is all.
    pub(super) fn fields(&self) -> Vec<&str> {
        match self {
            Condition::Transition { field, .. } | Condition::PriceDrop { field, .. } => vec![field],
            Condition::BackOnMarket => vec![STANDARD_STATUS],
            Condition::FieldChanged { fields } => fields.iter().map(String::as_str).collect(),
            Condition::Operation(_) => Vec::new(),
        }
    }
}

/// The kinds by the words a configuration has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Transition,
    PriceDrop,
    BackOnMarket,
    FieldChanged,
    Operation,
}

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    #[serde(default = "property")]
    resource: String,
    on: Kind,
    field: Option<String>,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    from: OneOrMany,
    #[serde(default)]
    to: OneOrMany,
    percent: Option<Percent>,
    operation: Option<String>,
    filter: Option<String>,
}

fn property() -> String {
    PROPERTY.to_owned()
}

impl RuleText {
    fn check_members(&self) -> Result<(), String> {
        let given = [
            ("field", self.field.is_some()),
            ("fields", !self.fields.is_empty()),
            ("from", !self.from.0.is_empty()),
            ("to", !self.to.0.is_empty()),
            ("percent", self.percent.is_some()),
            ("operation", self.operation.is_some()),
        ];
        let (kind, fitting): (_, &[&str]) = match self.on {
            Kind::Transition => ("transition", &["field", "from", "to"]),
            Kind::PriceDrop => ("price-drop", &["field", "percent"]),
            Kind::BackOnMarket => ("back-on-market", &[]),
            Kind::FieldChanged => ("field-changed", &["field", "fields"]),
            Kind::Operation => ("operation", &["operation"]),
        };
        for (member, is_given) in given {
            if is_given && !fitting.contains(&member) {
                return Err(format!(
                    "rule {:?}: `{member}` does not belong to on = \"{kind}\"",
                    self.name
                ));
            }
        }
        Ok(())
    }
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        text.check_members()?;
        let name = text.name;
        let needs = |what: &str| format!("rule {name:?}: {what}");
        let condition = match text.on {
            Kind::Transition => Condition::Transition {
                field: text.field.unwrap_or_else(|| STANDARD_STATUS.to_owned()),
                from: text.from.0,
                to: text.to.0,
            },
            Kind::PriceDrop => Condition::PriceDrop {
                field: text.field.unwrap_or_else(|| LIST_PRICE.to_owned()),
                percent: text
                    .percent
                    .ok_or_else(|| needs("on = \"price-drop\" needs `percent`"))?
                    .0,
            },
            Kind::BackOnMarket => Condition::BackOnMarket,
            Kind::FieldChanged => Condition::FieldChanged {
                fields: text.field.into_iter().chain(text.fields).collect(),
            },
            Kind::Operation => {
                let word = text.operation.as_deref().unwrap_or_default();
                Condition::Operation(operation(word).ok_or_else(|| {
                    needs("`operation` is one of \"insert\", \"delete\", \"relist\"")
                })?)
            }
        };
        let rule = Rule {
            resource: text.resource,
            condition,
            filter: text.filter,
            name,
        };
        rule.checked()
    }
}

impl Rule {
    fn checked(self) -> Result<Self, String> {
        let name = &self.name;
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(format!(
                "the name of a rule has 1 to {MAX_NAME} bytes on one line, not {name:?}"
            ));
        }
        if let Condition::PriceDrop { percent, .. } = &self.condition
            && (*percent <= Decimal::from(0) || *percent > Decimal::from(100))
        {
            return Err(format!(
                "rule {name:?}: `percent` is more than 0 and at most 100, not {percent}"
            ));
        }
        Ok(self)
    }
}

fn operation(word: &str) -> Option<Operation> {
    [Operation::Insert, Operation::Delete, Operation::Relist]
        .into_iter()
        .find(|op| op.name() == word)
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Error::Usage(format!(
                "the rule {text:?} {what}: write transition:Active->Pending, price-drop:5, \
                 back-on-market, field:ListPrice, insert, delete or relist, with @RESOURCE behind \
                 it for another resource than Property"
            ))
        };
        let (rest, resource) = match text.rsplit_once('@') {
            Some((rest, resource)) => (rest, resource.trim()),
            None => (text, PROPERTY),
        };
        let (kind, argument) = match rest.split_once(':') {
            Some((kind, argument)) => (kind.trim(), Some(argument.trim())),
            None => (rest.trim(), None),
        };
        let words = |text: &str, at: char| -> Vec<String> {
            let words = text.split(at).map(str::trim).filter(|w| !w.is_empty());
            words.map(str::to_owned).collect()
        };
        let condition = match (kind, argument) {
            ("transition", Some(argument)) => {
                let sides = argument.split_once("->");
                let (from, to) = sides.ok_or_else(|| wrong("has no `->`"))?;
                Condition::Transition {
                    field: STANDARD_STATUS.to_owned(),
                    from: words(from, '|'),
                    to: words(to, '|'),
                }
            }
            ("price-drop", Some(argument)) => {
                let number = argument.trim_end_matches('%').trim_end();
                Condition::PriceDrop {
                    field: LIST_PRICE.to_owned(),
                    percent: Decimal::parse(number).ok_or_else(|| wrong("has no number"))?,
                }
            }
            ("back-on-market", None) => Condition::BackOnMarket,
            ("field", Some(argument)) => Condition::FieldChanged {
                fields: words(argument, ','),
            },
            (word, None) => {
                Condition::Operation(operation(word).ok_or_else(|| wrong("is not known"))?)
            }
            _ => return Err(wrong("is not known")),
        };
        let rule = Rule {
            name: text.to_owned(),
            resource: resource.to_owned(),
            condition,
            filter: None,
        };
        rule.checked().map_err(Error::Usage)
    }
}

/// A text, or a list of them.
#[derive(Debug, Default)]
struct OneOrMany(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// A number of percent, exactly as it is written.
#[derive(Debug)]
struct Percent(Decimal);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of percent")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Percent, E> {
                Ok(Percent(Decimal::from(number)))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Percent, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Percent, E> {
                // The shortest text that is this float: 2.5, as it was written.
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Percent, E> {
                let number = Decimal::parse(text);
                number
                    .map(Percent)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Rule, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn rules_are_read_from_tables() {
        let rule = read(r#"{"name":"a","on":"transition","from":"Active","to":["Pending","X"]}"#);
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            rule.unwrap(),
            Rule {
                name: "a".into(),
                resource: "Property".into(),
                condition: Condition::Transition {
                    field: "StandardStatus".into(),
                    from: texts(&["Active"]),
                    to: texts(&["Pending", "X"]),
                },
                filter: None,
            }
        );
        let rule = read(r#"{"name":"b","on":"price-drop","percent":2.5,"field":"ClosePrice"}"#);
        let percent = Decimal::parse("2.5").unwrap();
        let field = "ClosePrice".to_owned();
        assert_eq!(
            rule.unwrap().condition,
            Condition::PriceDrop { field, percent }
        );
        let rule =
            read(r#"{"name":"c","on":"operation","operation":"delete","resource":"Office"}"#);
        let rule = rule.unwrap();
        assert_eq!(rule.condition, Condition::Operation(Operation::Delete));
        assert_eq!(rule.resource, "Office");
    }

    #[test]
    fn mistakes_in_tables_are_named() {
        for (json, expect) in [
            (r#"{"name":"a","on":"price-drop"}"#, "needs `percent`"),
            (
                r#"{"name":"a","on":"price-drop","percent":0}"#,
                "more than 0",
            ),
            (
                r#"{"name":"a","on":"price-drop","percent":101}"#,
                "at most 100",
            ),
            (r#"{"name":"a","on":"price-drop","percent":"x"}"#, "percent"),
            (r#"{"name":"","on":"back-on-market"}"#, "name of a rule"),
            (
                r#"{"name":"a","on":"back-on-market","to":"X"}"#,
                "`to` does not",
            ),
            (
                r#"{"name":"a","on":"operation","operation":"update"}"#,
                "insert",
            ),
            (r#"{"name":"a","on":"nothing"}"#, "nothing"),
            (r#"{"name":"a","on":"back-on-market","filer":"X"}"#, "filer"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expect), "{json}: {error}");
        }
    }

    #[test]
    fn rules_are_read_from_texts() {
        let condition = |text: &str| text.parse::<Rule>().unwrap().condition;
        let sides = |text: &str| match condition(text) {
            Condition::Transition { from, to, .. } => (from.join("/"), to.join("/")),
            other => panic!("{other:?}"),
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            sides("transition:Active->Pending"),
            pair("Active", "Pending")
        );
        assert_eq!(
            sides("transition: Active -> A B | C"),
            pair("Active", "A B/C")
        );
        assert_eq!(sides("transition:->Closed"), pair("", "Closed"));
        let field = || "ListPrice".to_owned();
        let percent = Decimal::from(5);
        let drop = Condition::PriceDrop {
            field: field(),
            percent,
        };
        assert_eq!(condition("price-drop:5%"), drop);
        let fields = vec![field(), "City".to_owned()];
        assert_eq!(
            condition("field:ListPrice, City"),
            Condition::FieldChanged { fields }
        );
        let rule: Rule = "insert@Office".parse().unwrap();
        assert_eq!(rule.resource, "Office");
        assert_eq!(rule.condition, Condition::Operation(Operation::Insert));
        for text in [
            "",
            "update",
            "transition:Active",
            "price-drop:",
            "price-drop:x",
            "sold:1",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
