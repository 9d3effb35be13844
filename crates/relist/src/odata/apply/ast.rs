//! The syntax of `$apply`, and its text.

use std::fmt;

use super::method::Method;
use crate::odata::ast::{Expr, Name, OrderItem, Span};

/// What `$apply` asks for: transformations, each of what the one before it gave.
///
/// Prints as OData text that parses back to an equal value.
#[derive(Debug, Clone, PartialEq)]
pub struct Apply {
    /// The transformations, one at least.
    pub steps: Vec<Transformation>,
}

/// One transformation and where it stood. Equality is of what it says.
#[derive(Debug, Clone)]
pub struct Transformation {
    /// What it does.
    pub kind: TransformationKind,
    /// Where it stood.
    pub span: Span,
}

impl PartialEq for Transformation {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What a [`Transformation`] does.
#[derive(Debug, Clone, PartialEq)]
pub enum TransformationKind {
    /// `identity`: nothing.
    Identity,
    /// `filter(..)`: keeps what passes.
    Filter(Expr),
    /// `compute(.. as Name,..)`: adds members.
    Compute(Vec<Named>),
    /// `groupby((..),..)`: the transformations of each group; its members alone without them.
    GroupBy {
        /// What makes a group.
        keys: Vec<Named>,
        /// What is done with each group.
        then: Option<Apply>,
    },
    /// `aggregate(..)`: one row of all.
    Aggregate(Vec<AggregateItem>),
    /// `orderby(..)`.
    OrderBy(Vec<OrderItem>),
    /// `top(n)`.
    Top(u64),
    /// `skip(n)`.
    Skip(u64),
    /// `topcount(n,..)` and its kin.
    Ranked {
        /// From which end, and what is counted.
        rank: Rank,
        /// How many, how much, or which part of a hundred.
        amount: Expr,
        /// What is ranked by.
        by: Expr,
    },
}

/// An expression and its name. Keys of a group may go without: see [`Named::default_name`].
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The expression.
    pub expr: Expr,
    /// The name it is given by `as`.
    pub name: Option<Name>,
}

/// One item of `aggregate`.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateItem {
    /// What is aggregated and how; `None` is `$count`.
    pub value: Option<(Expr, Method)>,
    /// What the result is named.
    pub name: Name,
}

/// Which of the ranked rows [`TransformationKind::Ranked`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// `topcount`: so many with the greatest values.
    TopCount,
    /// `bottomcount`: so many with the least values.
    BottomCount,
    /// `topsum`: the fewest with the greatest values that make up the sum.
    TopSum,
    /// `bottomsum`: the fewest with the least values that make up the sum.
    BottomSum,
    /// `toppercent`: the fewest with the greatest values that make up that part of the total.
    TopPercent,
    /// `bottompercent`: the fewest with the least values that make up that part of the total.
    BottomPercent,
}

impl Rank {
    pub(super) const ALL: [Rank; 6] = [
        Rank::TopCount,
        Rank::BottomCount,
        Rank::TopSum,
        Rank::BottomSum,
        Rank::TopPercent,
        Rank::BottomPercent,
    ];

    /// The transformation's name.
    pub fn name(self) -> &'static str {
        match self {
            Rank::TopCount => "topcount",
            Rank::BottomCount => "bottomcount",
            Rank::TopSum => "topsum",
            Rank::BottomSum => "bottomsum",
            Rank::TopPercent => "toppercent",
            Rank::BottomPercent => "bottompercent",
        }
    }

    /// Whether the greatest values come first.
    pub fn descending(self) -> bool {
        matches!(self, Rank::TopCount | Rank::TopSum | Rank::TopPercent)
    }

    /// Whether rows are counted, not their values summed.
    pub fn counts(self) -> bool {
        matches!(self, Rank::TopCount | Rank::BottomCount)
    }
}

impl Named {
    /// The name where none is given: the field's own, or `YearCloseDate` for `year(CloseDate)`.
    /// Other expressions need a name.
    pub fn default_name(&self) -> Option<String> {
        use crate::odata::ast::ExprKind;
        match &self.expr.kind {
            ExprKind::Path(path) => match path.names.as_slice() {
                [field] => Some(field.text.clone()),
                _ => None,
            },
            ExprKind::Call { name, args } => match args.as_slice() {
                [arg] => match &arg.kind {
                    ExprKind::Path(path) if path.names.len() == 1 => {
                        let field = path.names.first()?;
                        let mut letters = name.text.chars();
                        let first = letters.next()?.to_ascii_uppercase();
                        let rest = letters.as_str().to_ascii_lowercase().replace('.', "");
                        Some(format!("{first}{rest}{}", field.text))
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for Apply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(f, &self.steps, "/")
    }
}

impl fmt::Display for Transformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TransformationKind as K;
        match &self.kind {
            K::Identity => f.write_str("identity"),
            K::Filter(expr) => write!(f, "filter({expr})"),
            K::Compute(items) => called(f, "compute", items),
            K::GroupBy { keys, then } => {
                called(f, "groupby(", keys)?;
                if let Some(then) = then {
                    write!(f, ",{then}")?;
                }
                f.write_str(")")
            }
            K::Aggregate(items) => called(f, "aggregate", items),
            K::OrderBy(items) => called(f, "orderby", items),
            K::Top(n) => write!(f, "top({n})"),
            K::Skip(n) => write!(f, "skip({n})"),
            K::Ranked { rank, amount, by } => write!(f, "{}({amount},{by})", rank.name()),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)?;
        match &self.name {
            Some(name) => write!(f, " as {}", name.text),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AggregateItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some((expr, method)) => write!(f, "{expr} with {method} as {}", self.name.text),
            None => write!(f, "$count as {}", self.name.text),
        }
    }
}

fn called<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, items: &[T]) -> fmt::Result {
    write!(f, "{name}(")?;
    joined(f, items, ",")?;
    f.write_str(")")
}

fn joined<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], by: &str) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(by)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
