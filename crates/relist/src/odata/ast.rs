//! The syntax of an expression, and its text.
//!
//! Every node knows where it stood in the option's text, so that an error found later can point
//! at it. Two expressions are equal when they say the same, wherever they stood. An expression
//! prints as OData text that parses back to an equal expression.

use std::fmt;

use super::geo::Geography;
use crate::value::{Date, DateTime, Decimal, TimeOfDay, format_guid};

/// A place in the text of a query option, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub offset: usize,
    /// How many bytes it covers.
    pub len: usize,
}

impl Span {
    /// The place from the start of this one to the end of `last`.
    #[must_use]
    pub fn to(self, last: Span) -> Span {
        let end = (last.offset + last.len).max(self.offset + self.len);
        Span {
            offset: self.offset,
            len: end - self.offset,
        }
    }
}

/// An expression of `$filter` or `$orderby`, not yet resolved against a schema.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it says.
    pub kind: ExprKind,
    /// Where it stood.
    pub span: Span,
}

impl Expr {
    /// An expression that stood nowhere, made by a program.
    pub fn new(kind: ExprKind) -> Self {
        Expr {
            kind,
            span: Span::default(),
        }
    }
}

/// Equality of what is said; the place is ignored.
impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What an [`Expr`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A constant.
    Literal(Literal),
    /// A field, a lambda variable, or a member of one.
    Path(Path),
    /// `-x`.
    Neg(Box<Expr>),
    /// `not x`.
    Not(Box<Expr>),
    /// `a and b and ..`, two operands or more.
    And(Vec<Expr>),
    /// `a or b or ..`, two operands or more.
    Or(Vec<Expr>),
    /// `a eq b` and its kin.
    Compare {
        /// Which comparison.
        op: CompareOp,
        /// The left operand.
        left: Box<Expr>,
        /// The right operand.
        right: Box<Expr>,
    },
    /// `a add b` and its kin.
    Arith {
        /// Which operation.
        op: ArithOp,
        /// The left operand.
        left: Box<Expr>,
        /// The right operand.
        right: Box<Expr>,
    },
    /// `a has b`.
    Has {
        /// The enumeration value looked into.
        left: Box<Expr>,
        /// The members looked for.
        right: Box<Expr>,
    },
    /// `a in (b,c)` or `a in Collection`.
    In {
        /// The value looked for.
        value: Box<Expr>,
        /// A [`List`](ExprKind::List) or the path of a collection.
        set: Box<Expr>,
    },
    /// `(a,b)`, to the right of `in`.
    List(Vec<Expr>),
    /// A call of a function.
    Call {
        /// The function.
        name: Name,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// `Collection/any(x:..)` or `Collection/all(x:..)`.
    Lambda {
        /// The collection.
        collection: Path,
        /// Whether one element must do or all.
        quantifier: Quantifier,
        /// The variable and the condition; `None` for `any()`.
        body: Option<Lambda>,
    },
    /// `Collection/$count`.
    Count(Path),
}

/// The variable and the condition of `any` or `all`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lambda {
    /// The variable that stands for an element.
    pub variable: Name,
    /// What must hold of it.
    pub condition: Box<Expr>,
}

/// Names joined by `/`. The first is a field, a lambda variable or `$it`.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// The names, one at least.
    pub names: Vec<Name>,
}

/// An identifier and where it stood. Equality is of the text.
#[derive(Debug, Clone)]
pub struct Name {
    /// The identifier.
    pub text: String,
    /// Where it stood.
    pub span: Span,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name {
            text: text.to_owned(),
            span: Span::default(),
        }
    }
}

/// A constant as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number with its sign; whole when it was written without a point or exponent.
    Number(Decimal),
    /// `2020-01-31`.
    Date(Date),
    /// `2020-01-31T10:00:00Z`.
    DateTime(DateTime),
    /// `10:00:00`.
    TimeOfDay(TimeOfDay),
    /// `4fa95bdc-dd9b-c990-ebc0-162e675da6e1`.
    Guid([u8; 16]),
    /// `'O''Brien'`.
    String(String),
    /// `Namespace.Type'Member'`.
    Enum {
        /// The type's name, with or without its namespace.
        ty: String,
        /// A member, or several joined by commas.
        members: String,
    },
    /// `geography'SRID=4326;POINT(-111.9 40.6)'`.
    Geography(Geography),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// `eq`.
    Eq,
    /// `ne`.
    Ne,
    /// `gt`.
    Gt,
    /// `ge`.
    Ge,
    /// `lt`.
    Lt,
    /// `le`.
    Le,
}

impl CompareOp {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            CompareOp::Eq => "eq",
            CompareOp::Ne => "ne",
            CompareOp::Gt => "gt",
            CompareOp::Ge => "ge",
            CompareOp::Lt => "lt",
            CompareOp::Le => "le",
        }
    }

    /// The comparison that says the same with its operands exchanged.
    #[must_use]
    pub fn mirrored(self) -> CompareOp {
        match self {
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            same => same,
        }
    }
}

/// An arithmetic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArithOp {
    /// `add`.
    Add,
    /// `sub`.
    Sub,
    /// `mul`.
    Mul,
    /// `div`: of two integers, the integer quotient.
    Div,
    /// `divby`: the decimal quotient.
    DivBy,
    /// `mod`: the remainder, with the sign of the dividend.
    Mod,
}

impl ArithOp {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            ArithOp::Add => "add",
            ArithOp::Sub => "sub",
            ArithOp::Mul => "mul",
            ArithOp::Div => "div",
            ArithOp::DivBy => "divby",
            ArithOp::Mod => "mod",
        }
    }
}

/// Whether one element must satisfy a condition or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// `any`.
    Any,
    /// `all`.
    All,
}

/// One key of `$orderby`.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderItem {
    /// What is sorted by.
    pub expr: Expr,
    /// `desc` instead of `asc`.
    pub descending: bool,
}

/// What `$select` asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Select {
    /// `*`: every field.
    All,
    /// These fields, in this order.
    Fields(Vec<Name>),
}

/// How tightly operators bind, loosest first (OData 4.01 URL Conventions, 5.1.1.17).
pub(super) mod binding {
    pub(in crate::odata) const OR: u8 = 1;
    pub(in crate::odata) const AND: u8 = 2;
    pub(in crate::odata) const EQUALITY: u8 = 3;
    pub(in crate::odata) const RELATION: u8 = 4;
    pub(in crate::odata) const SUM: u8 = 5;
    pub(in crate::odata) const PRODUCT: u8 = 6;
    pub(in crate::odata) const UNARY: u8 = 7;
    /// `has` and `in`.
    pub(in crate::odata) const MEMBERSHIP: u8 = 8;
    pub(in crate::odata) const PRIMARY: u8 = 9;
}

impl CompareOp {
    pub(super) fn binding(self) -> u8 {
        match self {
            CompareOp::Eq | CompareOp::Ne => binding::EQUALITY,
            _ => binding::RELATION,
        }
    }
}

impl ArithOp {
    pub(super) fn binding(self) -> u8 {
        match self {
            ArithOp::Add | ArithOp::Sub => binding::SUM,
            _ => binding::PRODUCT,
        }
    }
}

impl ExprKind {
    fn binding(&self) -> u8 {
        match self {
            ExprKind::Or(_) => binding::OR,
            ExprKind::And(_) => binding::AND,
            ExprKind::Compare { op, .. } => op.binding(),
            ExprKind::Arith { op, .. } => op.binding(),
            ExprKind::Neg(_) | ExprKind::Not(_) => binding::UNARY,
            ExprKind::Has { .. } | ExprKind::In { .. } => binding::MEMBERSHIP,
            _ => binding::PRIMARY,
        }
    }
}

/// Prints OData text that parses back to an equal expression.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.kind.binding();
        match &self.kind {
            ExprKind::Literal(literal) => literal.fmt(f),
            ExprKind::Path(path) => path.fmt(f),
            ExprKind::Neg(operand) => match operand.kind {
                // `-5` would be a negative literal, `--x` is not in the grammar.
                ExprKind::Literal(_) | ExprKind::Neg(_) => write!(f, "-({operand})"),
                _ => {
                    f.write_str("-")?;
                    write_operand(f, operand, own)
                }
            },
            ExprKind::Not(operand) => {
                f.write_str("not ")?;
                write_operand(f, operand, own)
            }
            ExprKind::And(operands) => write_joined(f, operands, " and ", own + 1),
            ExprKind::Or(operands) => write_joined(f, operands, " or ", own + 1),
            ExprKind::Compare { op, left, right } => write_infix(f, left, op.name(), right, own),
            ExprKind::Arith { op, left, right } => write_infix(f, left, op.name(), right, own),
            ExprKind::Has { left, right } => write_infix(f, left, "has", right, own),
            ExprKind::In { value, set } => write_infix(f, value, "in", set, own),
            ExprKind::List(items) => write_call(f, "", items),
            ExprKind::Call { name, args } => write_call(f, &name.text, args),
            ExprKind::Lambda {
                collection,
                quantifier,
                body,
            } => write_lambda(f, collection, *quantifier, body.as_ref()),
            ExprKind::Count(path) => write!(f, "{path}/$count"),
        }
    }
}

fn write_operand(f: &mut fmt::Formatter<'_>, operand: &Expr, least: u8) -> fmt::Result {
    if operand.kind.binding() < least {
        write!(f, "({operand})")
    } else {
        write!(f, "{operand}")
    }
}

/// Operators of one precedence group from the left, so a right operand of the same group needs
/// parentheses.
fn write_infix(
    f: &mut fmt::Formatter<'_>,
    left: &Expr,
    op: &str,
    right: &Expr,
    own: u8,
) -> fmt::Result {
    write_operand(f, left, own)?;
    write!(f, " {op} ")?;
    write_operand(f, right, own + 1)
}

fn write_joined(f: &mut fmt::Formatter<'_>, items: &[Expr], by: &str, least: u8) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(by)?;
        }
        write_operand(f, item, least)?;
    }
    Ok(())
}

fn write_call(f: &mut fmt::Formatter<'_>, name: &str, args: &[Expr]) -> fmt::Result {
    write!(f, "{name}(")?;
    write_joined(f, args, ",", 0)?;
    f.write_str(")")
}

fn write_lambda(
    f: &mut fmt::Formatter<'_>,
    collection: &Path,
    quantifier: Quantifier,
    body: Option<&Lambda>,
) -> fmt::Result {
    let name = match quantifier {
        Quantifier::Any => "any",
        Quantifier::All => "all",
    };
    write!(f, "{collection}/{name}(")?;
    if let Some(body) = body {
        write!(f, "{}:{}", body.variable.text, body.condition)?;
    }
    f.write_str(")")
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            f.write_str(&name.text)?;
        }
        Ok(())
    }
}

/// Prints the literal as OData text.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => f.write_str("null"),
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Number(value) => write!(f, "{value}"),
            Literal::Date(value) => write!(f, "{value}"),
            Literal::DateTime(value) => write!(f, "{value}"),
            Literal::TimeOfDay(value) => write!(f, "{value}"),
            Literal::Guid(value) => f.write_str(&format_guid(value)),
            Literal::String(value) => write!(f, "'{}'", value.replace('\'', "''")),
            Literal::Enum { ty, members } => write!(f, "{ty}'{}'", members.replace('\'', "''")),
            Literal::Geography(value) => write!(f, "geography'{value}'"),
        }
    }
}

/// Prints the key as OData text.
impl fmt::Display for OrderItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.descending { " desc" } else { "" };
        write!(f, "{}{order}", self.expr)
    }
}
