//! The reference evaluator: what a filter means, computed as plainly as possible.
//!
//! It walks the parsed expression over a [`serde_json::Value`] for every row, shares no code with
//! the library's evaluator, and is slow on purpose: numbers are fractions, strings are lists of
//! characters, dates are counted day by day. Two roads, one answer.

pub mod apply;
mod calls;
mod values;

use calls::{geo, text_call, time_call};
use relist::odata::{ArithOp, CompareOp, Expr, ExprKind, Lambda, Path, Quantifier};
use relist::schema::{EnumType, FieldType, Resource, Schema};
use relist::value::Timestamp;
use serde_json::Value as Json;
use values::{
    Fraction, NANOS_A_DAY, T, Typed, V, calendar, day, declared, instant, literal_value, plain,
};

/// What the filter says of the entity: true, false or unknown.
///
/// The filter must be one that binds to `resource`; for others the answer means nothing.
pub fn evaluate(
    expr: &Expr,
    entity: &Json,
    schema: &Schema,
    resource: &Resource,
    now: Timestamp,
) -> Option<bool> {
    let reference = Reference {
        entity,
        schema,
        resource,
        now,
    };
    reference.eval(expr, &[]).truth()
}

struct Reference<'a> {
    entity: &'a Json,
    schema: &'a Schema,
    resource: &'a Resource,
    now: Timestamp,
}

/// The lambda variables in scope, innermost last.
type Env = [(String, Typed)];

impl Reference<'_> {
    fn eval(&self, expr: &Expr, env: &Env) -> Typed {
        match &expr.kind {
            ExprKind::Literal(literal) => literal_value(literal),
            ExprKind::Path(path) => self.path(path, env),
            ExprKind::Neg(operand) => {
                let operand = self.eval(operand, env);
                let value = match operand.value {
                    V::Number(n) => V::Number(Fraction::of(-n.over, n.under)),
                    _ => V::Null,
                };
                Typed { value, ..operand }
            }
            ExprKind::Not(operand) => Typed::bool(self.eval(operand, env).truth().map(|b| !b)),
            ExprKind::And(operands) => {
                let truths: Vec<_> = operands.iter().map(|o| self.eval(o, env).truth()).collect();
                Typed::bool(every(&truths))
            }
            ExprKind::Or(operands) => {
                let truths: Vec<_> = operands.iter().map(|o| self.eval(o, env).truth()).collect();
                Typed::bool(some(&truths))
            }
            ExprKind::Compare { op, left, right } => {
                let (left, right) = (self.eval(left, env), self.eval(right, env));
                Typed::bool(Some(self.compare(*op, &left, &right)))
            }
            ExprKind::Arith { op, left, right } => {
                arith(*op, &self.eval(left, env), &self.eval(right, env))
            }
            ExprKind::Has { left, right } => {
                let (left, right) = (self.eval(left, env), self.eval(right, env));
                Typed::bool(self.has(&left, &right))
            }
            ExprKind::In { value, set } => {
                let value = self.eval(value, env);
                let items = match &set.kind {
                    ExprKind::List(items) => items.iter().map(|i| self.eval(i, env)).collect(),
                    _ => Self::elements(&self.eval(set, env)),
                };
                let equal = |item: &Typed| self.compare(CompareOp::Eq, &value, item);
                Typed::bool(Some(items.iter().any(equal)))
            }
            ExprKind::List(_) => Typed::unknown(V::Null),
            ExprKind::Call { name, args } => {
                let args: Vec<_> = args.iter().map(|a| self.eval(a, env)).collect();
                self.call(&name.text.to_lowercase(), &args)
            }
            ExprKind::Lambda {
                collection,
                quantifier,
                body,
            } => self.lambda(collection, *quantifier, body.as_ref(), env),
            ExprKind::Count(path) => {
                let count = Self::elements(&self.path(path, env)).len();
                Typed::of(V::Number(Fraction::whole(count as i128)), FieldType::Int)
            }
        }
    }

    fn lambda(
        &self,
        collection: &Path,
        quantifier: Quantifier,
        body: Option<&Lambda>,
        env: &Env,
    ) -> Typed {
        let elements = Self::elements(&self.path(collection, env));
        let Some(body) = body else {
            return Typed::bool(Some(!elements.is_empty()));
        };
        let mut truths = Vec::new();
        for element in elements {
            let mut inner = env.to_vec();
            inner.push((body.variable.text.clone(), element));
            truths.push(self.eval(&body.condition, &inner).truth());
        }
        Typed::bool(match quantifier {
            Quantifier::Any => some(&truths),
            Quantifier::All => every(&truths),
        })
    }

    /// The elements of a collection; a string is a list joined by commas.
    fn elements(collection: &Typed) -> Vec<Typed> {
        let ty = match &collection.ty {
            T::Field(FieldType::LookupList(name)) => T::Field(FieldType::Lookup(name.clone())),
            T::Field(_) => T::Field(FieldType::String),
            other => other.clone(),
        };
        let typed = |value: V| Typed {
            value,
            ty: ty.clone(),
        };
        match &collection.value {
            V::List(items) => items.iter().map(|i| typed(V::Text(i.clone()))).collect(),
            V::Text(text) => joined(text)
                .into_iter()
                .map(|t| typed(V::Text(t)))
                .collect(),
            V::Json(Json::Array(items)) => items.iter().map(|i| typed(plain(i))).collect(),
            _ => Vec::new(),
        }
    }

    fn path(&self, path: &Path, env: &Env) -> Typed {
        let mut names: Vec<&str> = path.names.iter().map(|n| n.text.as_str()).collect();
        let variable = env.iter().rev().find(|(name, _)| name == names[0]);
        let mut current = if let Some((_, value)) = variable {
            names.remove(0);
            value.clone()
        } else {
            if names[0] == "$it" {
                names.remove(0);
            }
            let name = names.remove(0);
            self.read(self.entity.get(name), self.resource, name)
        };
        for name in names {
            let inner = match &current.value {
                V::Json(json) => json.get(name).cloned(),
                _ => None,
            };
            let resource = match &current.ty {
                T::Nested(target) => self.schema.resource(target),
                _ => None,
            };
            current = match resource {
                Some(resource) => self.read(inner.as_ref(), resource, name),
                None => Typed::unknown(inner.as_ref().map_or(V::Null, plain)),
            };
        }
        current
    }

    /// Reads a member of a record as the type it is declared with.
    fn read(&self, json: Option<&Json>, resource: &Resource, name: &str) -> Typed {
        let navigation = resource.navigation.iter().find(|n| n.name == name);
        let target = navigation.filter(|n| self.schema.resource(&n.target).is_some());
        let field = resource.fields.iter().find(|f| f.name == name);
        let ty = field.map_or(FieldType::Json, |f| f.ty.clone());
        let value = json.map_or(V::Null, |json| declared(json, &ty));
        match (target, ty) {
            (Some(navigation), _) => Typed {
                value,
                ty: T::Nested(navigation.target.clone()),
            },
            (None, FieldType::Json) => Typed::unknown(value),
            (None, ty) => Typed::of(value, ty),
        }
    }

    fn enum_of(&self, typed: &Typed) -> Option<&EnumType> {
        match &typed.ty {
            T::Field(FieldType::Lookup(name) | FieldType::LookupList(name)) | T::Member(name) => {
                self.schema.enum_type(name)
            }
            _ => None,
        }
    }

    fn compare(&self, op: CompareOp, left: &Typed, right: &Typed) -> bool {
        let equal = match op {
            CompareOp::Eq | CompareOp::Ne => Some(self.equal(left, right)),
            _ => None,
        };
        match (op, equal) {
            (CompareOp::Eq, Some(equal)) => equal,
            (CompareOp::Ne, Some(equal)) => !equal,
            _ => {
                let (left, right) = agreed(left, right);
                let Some(order) = order(&left, &right) else {
                    return false;
                };
                match op {
                    CompareOp::Gt => order.is_gt(),
                    CompareOp::Ge => order.is_ge(),
                    CompareOp::Lt => order.is_lt(),
                    _ => order.is_le(),
                }
            }
        }
    }

    fn equal(&self, left: &Typed, right: &Typed) -> bool {
        if left.value == V::Null || right.value == V::Null {
            return left.value == right.value;
        }
        let ty = self.enum_of(left).or_else(|| self.enum_of(right));
        let literal = matches!(left.ty, T::Member(_)) || matches!(right.ty, T::Member(_));
        if ty.is_some() || literal {
            let list = [left, right]
                .iter()
                .any(|t| matches!(t.ty, T::Field(FieldType::LookupList(_))));
            let (Some(a), Some(b)) = (members(left, list, ty), members(right, list, ty)) else {
                return false;
            };
            let holds = |a: &[Id], b: &[Id]| a.iter().all(|x| b.contains(x));
            return holds(&a, &b) && holds(&b, &a);
        }
        let (left, right) = agreed(left, right);
        order(&left, &right).is_some_and(std::cmp::Ordering::is_eq)
    }

    /// Whether the left value holds every member of the right one.
    fn has(&self, left: &Typed, right: &Typed) -> Option<bool> {
        if left.value == V::Null || right.value == V::Null {
            return None;
        }
        let V::Text(wanted) = &right.value else {
            return Some(false);
        };
        let ty = self.enum_of(left).or_else(|| self.enum_of(right));
        let loose = ty.is_some() || matches!(right.ty, T::Member(_));
        let id = |text: &str| identity(text, ty, loose);
        let whole_member = ty.is_some_and(|ty| member_index(ty, wanted).is_some());
        let wanted = if whole_member {
            vec![wanted.clone()]
        } else {
            joined(wanted)
        };
        let held: Vec<Id> = match &left.value {
            V::List(items) => items.iter().map(|i| id(i)).collect(),
            V::Text(text) => {
                let mut held = vec![id(text)];
                held.extend(joined(text).iter().map(|t| id(t)));
                held
            }
            V::Json(Json::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
                match texts {
                    Some(texts) => texts.into_iter().map(id).collect(),
                    None => return Some(false),
                }
            }
            _ => return Some(false),
        };
        Some(wanted.iter().all(|w| held.contains(&id(w))))
    }

    fn call(&self, name: &str, args: &[Typed]) -> Typed {
        if let Some(value) = geo(name, args) {
            return value;
        }
        match name {
            "now" => {
                let value = V::Instant(i128::from(self.now.0) * 1_000, 0);
                return Typed::of(value, FieldType::DateTime);
            }
            "mindatetime" => {
                let value = V::Instant(i128::from(day(1, 1, 1)) * NANOS_A_DAY, 0);
                return Typed::of(value, FieldType::DateTime);
            }
            "maxdatetime" => {
                let end = i128::from(day(9999, 12, 31) + 1) * NANOS_A_DAY - 1;
                return Typed::of(V::Instant(end, 0), FieldType::DateTime);
            }
            "round" | "floor" | "ceiling" => {
                let value = match args[0].value {
                    V::Number(n) => V::Number(Fraction::whole(match name {
                        "floor" => n.over.div_euclid(n.under),
                        "ceiling" => -(-n.over).div_euclid(n.under),
                        _ => {
                            let half = (2 * n.over.abs() + n.under) / (2 * n.under);
                            half * n.over.signum()
                        }
                    })),
                    _ => V::Null,
                };
                let whole = args[0].ty == T::Field(FieldType::Int);
                let ty = if whole {
                    FieldType::Int
                } else {
                    FieldType::Decimal
                };
                return Typed::of(value, ty);
            }
            _ => {}
        }
        text_call(name, args).unwrap_or_else(|| time_call(name, &args[0]))
    }
}

/// A member of an enumeration, or a text that is none.
#[derive(Debug, PartialEq)]
enum Id {
    Member(usize),
    Letters(String),
    Text(String),
}

fn identity(text: &str, ty: Option<&EnumType>, loose: bool) -> Id {
    if let Some(ty) = ty {
        return member_index(ty, text).map_or_else(|| Id::Text(text.to_owned()), Id::Member);
    }
    let letters = letters(text);
    if loose && !letters.is_empty() {
        return Id::Letters(letters);
    }
    Id::Text(text.to_owned())
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// The one member that a text names by its name, its display text, or the letters of either.
fn member_index(ty: &EnumType, text: &str) -> Option<usize> {
    let named = |wanted: &dyn Fn(&str) -> bool| -> Vec<usize> {
        let members = ty.members.iter().enumerate();
        let found =
            members.filter(|(_, m)| wanted(&m.name) || m.display.as_deref().is_some_and(wanted));
        found.map(|(i, _)| i).collect()
    };
    if let Some(first) = named(&|spelling| spelling == text).first() {
        return Some(*first);
    }
    let own = letters(text);
    match named(&|spelling| !own.is_empty() && letters(spelling) == own).as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

/// The members a value stands for; `None` for a value that is no lookup.
fn members(typed: &Typed, list: bool, ty: Option<&EnumType>) -> Option<Vec<Id>> {
    let id = |text: &str| identity(text, ty, true);
    match &typed.value {
        V::List(items) if list || items.len() == 1 => Some(items.iter().map(|i| id(i)).collect()),
        V::Text(text) if list => {
            if ty.is_some_and(|ty| member_index(ty, text).is_some()) {
                return Some(vec![id(text)]);
            }
            Some(joined(text).iter().map(|t| id(t)).collect())
        }
        V::Text(text) => Some(vec![id(text)]),
        _ => None,
    }
}

fn joined(text: &str) -> Vec<String> {
    let parts = text.split(',').map(|p| p.trim().to_owned());
    parts.filter(|p| !p.is_empty()).collect()
}

fn every(truths: &[Option<bool>]) -> Option<bool> {
    if truths.contains(&Some(false)) {
        Some(false)
    } else if truths.contains(&None) {
        None
    } else {
        Some(true)
    }
}

fn some(truths: &[Option<bool>]) -> Option<bool> {
    if truths.contains(&Some(true)) {
        Some(true)
    } else if truths.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn arith(op: ArithOp, left: &Typed, right: &Typed) -> Typed {
    let both_int = [left, right]
        .iter()
        .all(|t| t.ty == T::Field(FieldType::Int))
        && op != ArithOp::DivBy;
    let ty = if both_int {
        FieldType::Int
    } else {
        FieldType::Decimal
    };
    let (V::Number(a), V::Number(b)) = (&left.value, &right.value) else {
        return Typed::of(V::Null, ty);
    };
    let quotient = || {
        let exact = (b.over != 0).then(|| Fraction::of(a.over * b.under, a.under * b.over));
        exact.map(Fraction::twelve_digits)
    };
    let integers = !left.is_decimal() && !right.is_decimal() && a.under == 1 && b.under == 1;
    let result = match op {
        ArithOp::Add => Some(Fraction::of(
            a.over * b.under + b.over * a.under,
            a.under * b.under,
        )),
        ArithOp::Sub => Some(Fraction::of(
            a.over * b.under - b.over * a.under,
            a.under * b.under,
        )),
        ArithOp::Mul => Some(Fraction::of(a.over * b.over, a.under * b.under)),
        ArithOp::Div if integers => (b.over != 0).then(|| Fraction::whole(a.over / b.over)),
        ArithOp::Div | ArithOp::DivBy => quotient(),
        // a - b * trunc(a / b)
        ArithOp::Mod => (b.over != 0).then(|| {
            let times = (a.over * b.under) / (a.under * b.over);
            Fraction::of(
                a.over * b.under - b.over * times * a.under,
                a.under * b.under,
            )
        }),
    };
    Typed::of(result.map_or(V::Null, V::Number), ty)
}

/// Reads a nested string as the type of what it is compared with.
fn agreed(left: &Typed, right: &Typed) -> (V, V) {
    let read = |own: &Typed, other: &Typed| match (&own.ty, &own.value, &other.ty) {
        (T::Unknown, V::Text(text), T::Field(ty)) => {
            let first = declared(&Json::String(text.clone()), ty);
            match (&first, ty) {
                (V::Text(_), FieldType::Date) => instant(text).unwrap_or(first),
                (V::Text(_), FieldType::DateTime) => calendar(text).map_or(first, V::Day),
                _ => first,
            }
        }
        (T::Field(FieldType::String), V::Text(text), T::Field(FieldType::Guid)) => {
            V::Guid(text.to_lowercase())
        }
        _ => own.value.clone(),
    };
    (read(left, right), read(right, left))
}

fn order(left: &V, right: &V) -> Option<std::cmp::Ordering> {
    let midnight = |days: i64| i128::from(days) * NANOS_A_DAY;
    Some(match (left, right) {
        (V::Bool(a), V::Bool(b)) => a.cmp(b),
        (V::Number(a), V::Number(b)) => (a.over * b.under).cmp(&(b.over * a.under)),
        (V::Day(a), V::Day(b)) => a.cmp(b),
        (V::Day(a), V::Instant(b, _)) => midnight(*a).cmp(b),
        (V::Instant(a, _), V::Day(b)) => a.cmp(&midnight(*b)),
        (V::Instant(a, _), V::Instant(b, _)) | (V::Time(a), V::Time(b)) => a.cmp(b),
        (V::Guid(a), V::Guid(b)) => a.cmp(b),
        (V::Text(a), V::Text(b)) => a.chars().cmp(b.chars()),
        (V::List(a), V::List(b)) => a.cmp(b),
        _ => return None,
    })
}
