//! Binding comparisons, `in` and `has`: types are made to agree, lookups are resolved.

use super::ast::{CompareOp, Expr, ExprKind, Literal};
use super::bind::{Binder, Bound, folded};
use super::lexer::{TokenKind, tokens};
use super::lookup::{LookupTest, Member};
use super::node::{Kind, Node};
use super::text::OptionText;
use super::types::{Class, Ty};
use crate::error::QueryError;
use crate::schema::EnumType;
use crate::value::{Value, parse_guid};

impl<'a> Binder<'a> {
    pub(super) fn compare(
        &mut self,
        op: CompareOp,
        left: &'a Expr,
        right: &'a Expr,
    ) -> Result<Bound<'a>, QueryError> {
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        self.comparison(op, (left, l), (right, r))
    }

    /// Compares two bound operands.
    fn comparison(
        &self,
        op: CompareOp,
        left: (&'a Expr, Bound<'a>),
        right: (&'a Expr, Bound<'a>),
    ) -> Result<Bound<'a>, QueryError> {
        // Constants stand on the right from here on.
        let swap = left.1.node.constant().is_some() && right.1.node.constant().is_none();
        let (op, (left, l), (right, r)) = if swap {
            (op.mirrored(), right, left)
        } else {
            (op, left, right)
        };
        if let Some(Value::String(text)) = r.node.constant()
            && l.node.constant().is_none()
            && let Some(test) = self.lookup_test(left, &l, right, r.ty, text)?
        {
            return self.lookup_comparison(op, left, l, test);
        }
        let (l, r) = self.agreed((left, l), (right, r))?;
        self.ordered(op, left, l.ty)?;
        self.ordered(op, right, r.ty)?;
        let right = fitted(l.ty, r.node);
        Ok(Bound::bool(Node::Compare {
            op,
            left: Box::new(l.node),
            right: Box::new(right),
        }))
    }

    /// The lookup test that equality with a constant text means, when `left` is a lookup or the
    /// constant an enumeration literal.
    fn lookup_test(
        &self,
        left: &Expr,
        l: &Bound<'a>,
        right: &Expr,
        constant: Ty<'a>,
        text: &str,
    ) -> Result<Option<LookupTest>, QueryError> {
        Ok(Some(match (l.ty, constant) {
            (Ty::Lookup(ty), _) => {
                self.same_enum(left, ty, right)?;
                LookupTest::OneOf(vec![self.member_named(ty, text, right)?])
            }
            (Ty::LookupList(ty), _) => {
                self.same_enum(left, ty, right)?;
                LookupTest::Sets(vec![self.members_named(Some(ty), text, right)?])
            }
            (Ty::String | Ty::Json, Ty::Member(Some(ty))) => {
                LookupTest::OneOf(vec![self.member_named(ty, text, right)?])
            }
            (Ty::String | Ty::Json, Ty::Member(None)) => {
                LookupTest::OneOf(vec![Member::undeclared(text)])
            }
            _ => return Ok(None),
        }))
    }

    fn lookup_comparison(
        &self,
        op: CompareOp,
        left: &Expr,
        l: Bound<'a>,
        test: LookupTest,
    ) -> Result<Bound<'a>, QueryError> {
        let lookup = Node::Lookup {
            value: Box::new(l.node),
            test,
        };
        match op {
            CompareOp::Eq => Ok(Bound::bool(lookup)),
            CompareOp::Ne => Ok(Bound::bool(Node::Not(Box::new(lookup)))),
            _ => {
                let message = format!("{left} is {}, which has no order", l.ty.name());
                let hint = "use eq, ne, in or has".to_owned();
                Err(self.option.hinted(left.span, message, Some(hint)))
            }
        }
    }

    /// Checks that an enumeration literal is of the field's type, whatever its namespace.
    fn same_enum(&self, left: &Expr, ty: &EnumType, right: &Expr) -> Result<(), QueryError> {
        let ExprKind::Literal(Literal::Enum { ty: written, .. }) = &right.kind else {
            return Ok(());
        };
        let short = written.rsplit('.').next().unwrap_or(written);
        if short == ty.short_name() {
            return Ok(());
        }
        let message = format!("{left} is a member of {}, not of {short}", ty.short_name());
        let hint = Some(format!("write {}'..'", ty.name));
        Err(self.option.hinted(right.span, message, hint))
    }

    /// The member of a declared enumeration. The empty string, which some feeds send for no
    /// member, is let through.
    fn member_named(&self, ty: &EnumType, text: &str, at: &Expr) -> Result<Member, QueryError> {
        if text.is_empty() {
            return Ok(Member::exact(""));
        }
        Member::declared(ty, text).ok_or_else(|| {
            let short = ty.short_name();
            let message = format!("{text:?} is not a member of {short}");
            let members = ty.members.iter();
            let known: Vec<_> = members
                .flat_map(|m| std::iter::once(m.name.as_str()).chain(m.display.as_deref()))
                .collect();
            self.option
                .hinted(at.span, message, Self::near(text, &known))
        })
    }

    /// One member, or several joined by commas; none for the empty string.
    fn members_named(
        &self,
        ty: Option<&EnumType>,
        text: &str,
        at: &Expr,
    ) -> Result<Vec<Member>, QueryError> {
        if let Some(whole) = ty.and_then(|ty| Member::declared(ty, text)) {
            return Ok(vec![whole]);
        }
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        parts
            .map(|part| match ty {
                Some(ty) => self.member_named(ty, part, at),
                None => Ok(Member::undeclared(part)),
            })
            .collect()
    }

    /// Makes the types of two operands agree, or says why they do not.
    fn agreed(
        &self,
        left: (&Expr, Bound<'a>),
        right: (&Expr, Bound<'a>),
    ) -> Result<(Bound<'a>, Bound<'a>), QueryError> {
        let ((left, l), (right, r)) = (left, right);
        match (l.ty.class(), r.ty.class()) {
            (Class::Null, _) | (_, Class::Null) => Ok((l, r)),
            (Class::Any, _) => Ok((coerced(l, r.ty), r)),
            (_, Class::Any) => {
                let r = coerced(r, l.ty);
                Ok((l, r))
            }
            (a, b) if a == b && a != Class::Opaque => Ok((l, r)),
            (Class::Guid, Class::Text) => match r.node.constant().and_then(guid) {
                Some(node) => Ok((l, Bound { node, ty: Ty::Guid })),
                None => Err(self.disagreement((left, &l), (right, &r))),
            },
            _ => Err(self.disagreement((left, &l), (right, &r))),
        }
    }

    fn disagreement(&self, left: (&Expr, &Bound<'_>), right: (&Expr, &Bound<'_>)) -> QueryError {
        let ((left, l), (right, r)) = (left, right);
        let message = format!(
            "{left} is {}, {right} is {}: they do not compare",
            l.ty.name(),
            r.ty.name()
        );
        let hint = match (l.ty.class(), &right.kind) {
            (Class::List, _) => Some(format!("write {left}/any(x:x eq ..) or {left} has '..'")),
            (Class::Bool, _) => Some("write true or false".to_owned()),
            (Class::Opaque, _) if matches!(l.ty, Ty::Point) => {
                Some(format!("write geo.distance({left},geography'..') lt .."))
            }
            (class, ExprKind::Literal(Literal::String(text))) => {
                let unquoted = literal_class(text) == Some(class);
                unquoted.then(|| format!("write {text} without quotes"))
            }
            (Class::Text, ExprKind::Literal(literal)) => Some(format!("write '{literal}'")),
            _ => None,
        };
        let span = match right.kind {
            ExprKind::Literal(_) => right.span,
            _ => left.span.to(right.span),
        };
        self.option.hinted(span, message, hint)
    }

    /// Checks that an operand of `gt`, `ge`, `lt` or `le` has an order.
    fn ordered(&self, op: CompareOp, expr: &Expr, ty: Ty<'_>) -> Result<(), QueryError> {
        let equality = matches!(op, CompareOp::Eq | CompareOp::Ne);
        let orderless = matches!(ty, Ty::Lookup(_) | Ty::Member(_))
            || matches!(ty.class(), Class::List | Class::Opaque);
        if equality || !orderless {
            return Ok(());
        }
        let message = format!("{expr} is {}, which has no order", ty.name());
        Err(self.option.error(expr.span, message))
    }

    pub(super) fn has(&mut self, left: &'a Expr, right: &'a Expr) -> Result<Bound<'a>, QueryError> {
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        let declared = match (l.ty, r.ty) {
            (Ty::Lookup(ty) | Ty::LookupList(ty), _) => {
                self.same_enum(left, ty, right)?;
                Some(ty)
            }
            (Ty::String | Ty::StringList | Ty::Json | Ty::Null, Ty::Member(ty)) => ty,
            (Ty::String | Ty::StringList | Ty::Json | Ty::Null, _) => None,
            (ty, _) => {
                let message = format!("has takes a lookup, and {left} is {}", ty.name());
                return Err(self.option.error(left.span, message));
            }
        };
        let members = match (r.node.constant(), r.ty) {
            (Some(Value::Null), _) => return Ok(Bound::bool(Node::Const(Value::Null))),
            (Some(Value::String(text)), Ty::String | Ty::Member(_)) => {
                let members = self.members_named(declared, text, right)?;
                let plain = declared.is_none() && matches!(r.ty, Ty::String);
                if plain { exactly(text) } else { members }
            }
            _ => Vec::new(),
        };
        if members.is_empty() {
            let message = format!("has is followed by a member, not {right}");
            let hint = Some("write Field has Type'Member' or Field has 'Member'".to_owned());
            return Err(self.option.hinted(right.span, message, hint));
        }
        let value = match l.ty {
            Ty::Json => coerced_to(l.node, Kind::List),
            _ => l.node,
        };
        Ok(Bound::bool(Node::Lookup {
            value: Box::new(value),
            test: LookupTest::Has(members),
        }))
    }

    /// `value in set`: equal to one of the set, as `or` over `eq` would say.
    pub(super) fn member_of(
        &mut self,
        value: &'a Expr,
        set: &'a Expr,
    ) -> Result<Bound<'a>, QueryError> {
        let items = match &set.kind {
            ExprKind::List(items) => items,
            ExprKind::Path(path) => {
                let (collection, element) = self.collection(path)?;
                return self.element_of(value, set, collection.node, element);
            }
            _ => {
                let message = format!("in is followed by a list in parentheses, not {set}");
                let hint = Some(format!("write ({set})"));
                return Err(self.option.hinted(set.span, message, hint));
            }
        };
        let bound = self.expr(value)?;
        let mut tests = Vec::with_capacity(items.len());
        for item in items {
            let one = self.expr(item)?;
            let pair = (value, bound.clone());
            tests.push(self.comparison(CompareOp::Eq, pair, (item, one))?.node);
        }
        Ok(Bound::bool(merged(bound.node, tests)))
    }

    fn element_of(
        &mut self,
        value: &'a Expr,
        set: &'a Expr,
        collection: Node,
        element: Ty<'a>,
    ) -> Result<Bound<'a>, QueryError> {
        let bound = self.expr(value)?;
        let kind = bound.ty.kind();
        let constant = bound.node.constant().is_some();
        let variable = Bound {
            node: Node::Variable(0),
            ty: element,
        };
        let test = self.comparison(CompareOp::Eq, (set, variable), (value, bound.clone()))?;
        let collection = Box::new(collection);
        let node = if constant {
            Node::Any {
                collection,
                condition: Some(Box::new(test.node)),
            }
        } else {
            Node::ElementOf {
                value: Box::new(bound.node),
                collection,
                kind,
            }
        };
        Ok(Bound { node, ty: Ty::Bool })
    }
}

/// Members written as a plain string for a field of no declared lookup: spelled exactly so.
fn exactly(text: &str) -> Vec<Member> {
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts.map(Member::exact).collect()
}

/// One node for many equality tests of one value: a sorted set or a list of members, where the
/// tests are of one kind.
fn merged(value: Node, tests: Vec<Node>) -> Node {
    if tests.is_empty() {
        return Node::Const(Value::Bool(false));
    }
    if value.constant().is_some() {
        return Node::Or(tests);
    }
    let mut kinds = Vec::new();
    let mut set = Vec::new();
    let (mut members, mut sets) = (Vec::new(), Vec::new());
    for test in &tests {
        match test {
            Node::Compare { left, right, .. } => {
                if let Some(constant) = right.constant() {
                    set.push(constant.clone());
                    let kind = match left.as_ref() {
                        Node::Coerce { kind, .. } => *kind,
                        _ => Kind::Plain,
                    };
                    if !kinds.contains(&kind) {
                        kinds.push(kind);
                    }
                }
            }
            Node::Lookup { test, .. } => match test {
                LookupTest::OneOf(one) => members.extend_from_slice(one),
                LookupTest::Sets(one) => sets.extend_from_slice(one),
                LookupTest::Has(_) => {}
            },
            _ => {}
        }
    }
    let value = Box::new(value);
    if let ([kind], true) = (kinds.as_slice(), set.len() == tests.len()) {
        set.sort_by(Value::total_cmp);
        set.dedup_by(|a, b| a.total_cmp(b).is_eq());
        return folded(Node::In {
            value,
            set,
            kind: *kind,
        });
    }
    if members.len() == tests.len() {
        let test = LookupTest::OneOf(members);
        return Node::Lookup { value, test };
    }
    if sets.len() == tests.len() {
        let test = LookupTest::Sets(sets);
        return Node::Lookup { value, test };
    }
    Node::Or(tests)
}

fn coerced<'s>(bound: Bound<'s>, ty: Ty<'_>) -> Bound<'s> {
    Bound {
        node: coerced_to(bound.node, ty.kind()),
        ty: bound.ty,
    }
}

fn coerced_to(node: Node, kind: Kind) -> Node {
    if kind == Kind::Plain {
        return node;
    }
    folded(Node::Coerce {
        value: Box::new(node),
        kind,
    })
}

/// A constant in the type of what it is compared with: a day as an instant, `100.0` as `100`.
fn fitted(ty: Ty<'_>, node: Node) -> Node {
    match (ty, &node) {
        (Ty::DateTime, Node::Const(Value::Date(day))) => {
            Node::Const(Value::DateTime(day.midnight()))
        }
        (Ty::Int, Node::Const(Value::Decimal(number))) => match number.to_i64() {
            Some(whole) => Node::Const(Value::Int(whole)),
            None => node,
        },
        _ => node,
    }
}

fn guid(value: &Value<'_>) -> Option<Node> {
    let bytes = parse_guid(value.as_str()?)?;
    Some(Node::Const(Value::Guid(bytes)))
}

/// The class of the one literal that `text` is, if it is one.
fn literal_class(text: &str) -> Option<Class> {
    let option = OptionText { name: "", text };
    let tokens = tokens(option).ok()?;
    let [literal, _] = tokens.as_slice() else {
        return None;
    };
    match &literal.kind {
        TokenKind::Literal(Literal::Number(_)) => Some(Class::Number),
        TokenKind::Literal(Literal::Date(_) | Literal::DateTime(_)) => Some(Class::Instant),
        TokenKind::Literal(Literal::TimeOfDay(_)) => Some(Class::TimeOfDay),
        TokenKind::Literal(Literal::Guid(_)) => Some(Class::Guid),
        _ => None,
    }
}
