//! The reference evaluator: what a filter means, computed as plainly as possible.
//!
//! It walks the parsed expression over a [`serde_json::Value`] for every row, shares no code with
//! the library's evaluator, and is slow on purpose: numbers are fractions, strings are lists of
//! characters, dates are counted day by day. Two roads, one answer.

use relist::odata::{
    ArithOp, CompareOp, Expr, ExprKind, Geography, Lambda, Literal, Path, Quantifier, Shape,
};
use relist::schema::{EnumType, FieldType, Resource, Schema};
use relist::value::{Decimal, Timestamp, format_guid};
use serde_json::Value as Json;

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

/// A value with what is known of its type.
#[derive(Debug, Clone)]
struct Typed {
    value: V,
    ty: T,
}

#[derive(Debug, Clone, PartialEq)]
enum T {
    Field(FieldType),
    /// A nested record, or a collection of them, of the named resource.
    Nested(String),
    /// An enumeration literal of the named type.
    Member(String),
    /// Nested JSON, null, shapes.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
enum V {
    Null,
    Bool(bool),
    Number(Fraction),
    /// Days since 1970.
    Day(i64),
    /// Nanoseconds since 1970 UTC, minutes east.
    Instant(i128, i64),
    /// Nanoseconds since midnight.
    Time(i128),
    Guid(String),
    Text(String),
    List(Vec<String>),
    Point(f64, f64),
    Shape(Geography),
    Json(Json),
}

type Env = [(String, Typed)];

impl Typed {
    fn of(value: V, ty: FieldType) -> Self {
        Typed {
            value,
            ty: T::Field(ty),
        }
    }

    fn unknown(value: V) -> Self {
        let ty = T::Unknown;
        Typed { value, ty }
    }

    fn bool(truth: Option<bool>) -> Self {
        Typed::of(truth.map_or(V::Null, V::Bool), FieldType::Bool)
    }

    fn truth(&self) -> Option<bool> {
        match self.value {
            V::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    fn is_decimal(&self) -> bool {
        self.ty == T::Field(FieldType::Decimal)
    }
}

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

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fraction {
    over: i128,
    under: i128,
}

impl Fraction {
    fn of(over: i128, under: i128) -> Self {
        let (mut a, mut b) = (over.abs(), under.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let by = a.max(1) * under.signum();
        Fraction {
            over: over / by,
            under: under / by,
        }
    }

    fn whole(n: i128) -> Self {
        Fraction::of(n, 1)
    }

    fn decimal(value: Decimal) -> Self {
        Fraction::of(value.mantissa(), 10_i128.pow(value.scale().into()))
    }

    /// To twelve digits after the point, halves away from zero: how the library divides.
    fn twelve_digits(self) -> Self {
        let unit = 1_000_000_000_000;
        let half = (2 * self.over.abs() * unit + self.under) / (2 * self.under);
        Fraction::of(half * self.over.signum(), unit)
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

fn literal_value(literal: &Literal) -> Typed {
    match literal {
        Literal::Null => Typed::unknown(V::Null),
        Literal::Bool(truth) => Typed::bool(Some(*truth)),
        Literal::Number(n) => {
            let whole = n.scale() == 0;
            let ty = if whole {
                FieldType::Int
            } else {
                FieldType::Decimal
            };
            Typed::of(V::Number(Fraction::decimal(*n)), ty)
        }
        Literal::Date(date) => Typed::of(V::Day(date.0.into()), FieldType::Date),
        Literal::DateTime(at) => {
            let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
            let value = V::Instant(nanos, at.offset_minutes.into());
            Typed::of(value, FieldType::DateTime)
        }
        Literal::TimeOfDay(time) => Typed::of(V::Time(time.0.into()), FieldType::TimeOfDay),
        Literal::Guid(bytes) => Typed::of(V::Guid(format_guid(bytes)), FieldType::Guid),
        Literal::String(text) => Typed::of(V::Text(text.clone()), FieldType::String),
        Literal::Enum { ty, members } => Typed {
            value: V::Text(members.clone()),
            ty: T::Member(ty.clone()),
        },
        Literal::Geography(geography) => Typed::unknown(match geography.shape {
            Shape::Point(p) if geography.srid.is_none() => V::Point(p.longitude, p.latitude),
            _ => V::Shape(geography.clone()),
        }),
    }
}

/// A JSON value as it shows itself.
fn plain(json: &Json) -> V {
    match json {
        Json::Null => V::Null,
        Json::Bool(truth) => V::Bool(*truth),
        Json::Number(n) => {
            let number = Decimal::parse(&n.to_string()).expect("test numbers are short");
            V::Number(Fraction::decimal(number))
        }
        Json::String(text) => V::Text(text.clone()),
        nested => V::Json(nested.clone()),
    }
}

/// A JSON value read as a declared type; as it shows itself where it does not fit.
fn declared(json: &Json, ty: &FieldType) -> V {
    let read = match (json, ty) {
        (Json::String(text), FieldType::Date) => calendar(text).map(V::Day),
        (Json::String(text), FieldType::DateTime) => instant(text),
        (Json::String(text), FieldType::TimeOfDay) => clock(text).map(V::Time),
        (Json::String(text), FieldType::Guid) => {
            let plain: String = text.chars().filter(|c| *c != '-').collect();
            let hex = plain.len() == 32 && plain.chars().all(|c| c.is_ascii_hexdigit());
            hex.then(|| V::Guid(text.to_lowercase()))
        }
        (Json::Array(items), FieldType::StringList | FieldType::LookupList(_)) => {
            let texts: Option<Vec<_>> = items.iter().map(|i| i.as_str()).collect();
            texts.map(|t| V::List(t.into_iter().map(str::to_owned).collect()))
        }
        (Json::Object(object), FieldType::GeoPoint) => {
            let pair = object.get("coordinates").and_then(Json::as_array);
            let number = |i: usize| pair?.get(i)?.as_f64();
            number(0).zip(number(1)).map(|(x, y)| V::Point(x, y))
        }
        _ => None,
    };
    read.unwrap_or_else(|| plain(json))
}

const NANOS_A_DAY: i128 = 86_400_000_000_000;

fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, counted year by year and month by month.
fn day(year: i64, month: i64, day: i64) -> i64 {
    let length = |y: i64| if leap(y) { 366 } else { 365 };
    let years: i64 = if year >= 1970 {
        (1970..year).map(length).sum()
    } else {
        -(year..1970).map(length).sum::<i64>()
    };
    years + (1..month).map(|m| days_in(year, m)).sum::<i64>() + day - 1
}

/// Year, month and day of a day counted from 1970-01-01.
fn parts_of_day(mut days: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += if leap(year) { 366 } else { 365 };
    }
    while days >= if leap(year) { 366 } else { 365 } {
        days -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

fn numbers(text: &str, by: char) -> Option<Vec<i64>> {
    let parts = text.split(by);
    parts
        .map(|p| p.parse().ok().filter(|n: &i64| *n >= 0))
        .collect()
}

fn calendar(text: &str) -> Option<i64> {
    match numbers(text, '-')?.as_slice() {
        [y, m, d] if (1..=12).contains(m) && (1..=days_in(*y, *m)).contains(d) => {
            Some(day(*y, *m, *d))
        }
        _ => None,
    }
}

fn clock(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = numbers(whole, ':')?;
    if parts.len() == 2 {
        parts.push(0);
    }
    let [h, m, s] = parts.as_slice() else {
        return None;
    };
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some((i128::from(h * 3_600 + m * 60 + s)) * 1_000_000_000 + nanos)
}

fn instant(text: &str) -> Option<V> {
    let (date, rest) = text.split_once('T')?;
    let (time, minutes) = if let Some(time) = rest.strip_suffix('Z') {
        (time, 0)
    } else {
        let at = rest.rfind(['+', '-'])?;
        let offset = numbers(&rest[at + 1..], ':')?;
        let sign = if rest[at..].starts_with('-') { -1 } else { 1 };
        (&rest[..at], sign * (offset[0] * 60 + offset[1]))
    };
    let local = i128::from(calendar(date)?) * NANOS_A_DAY + clock(time)?;
    Some(V::Instant(
        local - i128::from(minutes) * 60_000_000_000,
        minutes,
    ))
}

fn text_call(name: &str, args: &[Typed]) -> Option<Typed> {
    let text = |i: usize| match args.get(i).map(|a| &a.value) {
        Some(V::Text(text)) => Some(text.chars().collect::<Vec<char>>()),
        _ => None,
    };
    let number = |i: usize| match args.get(i).map(|a| &a.value) {
        Some(V::Number(n)) if n.under == 1 => Some(n.over),
        _ => None,
    };
    let string = |chars: Vec<char>| V::Text(chars.into_iter().collect());
    let both = || text(0).zip(text(1));
    let find = |(all, part): (Vec<char>, Vec<char>)| {
        (0..=all.len()).find(|at| all[*at..].starts_with(&part))
    };
    let int = |n: usize| V::Number(Fraction::whole(n as i128));
    let minus_one = V::Number(Fraction::whole(-1));
    let (value, ty) = match name {
        "contains" => (both().map(|b| V::Bool(find(b).is_some())), FieldType::Bool),
        "startswith" => (
            both().map(|(all, part)| V::Bool(all.starts_with(&part))),
            FieldType::Bool,
        ),
        "endswith" => (
            both().map(|(all, part)| V::Bool(all.ends_with(&part))),
            FieldType::Bool,
        ),
        "indexof" => (
            both().map(|b| find(b).map_or(minus_one, int)),
            FieldType::Int,
        ),
        "length" => (text(0).map(|t| int(t.len())), FieldType::Int),
        "tolower" => (
            text(0).map(|t| V::Text(t.into_iter().collect::<String>().to_lowercase())),
            FieldType::String,
        ),
        "toupper" => (
            text(0).map(|t| V::Text(t.into_iter().collect::<String>().to_uppercase())),
            FieldType::String,
        ),
        "trim" => (
            text(0).map(|mut t| {
                while t.last().is_some_and(|c| c.is_whitespace()) {
                    t.pop();
                }
                while t.first().is_some_and(|c| c.is_whitespace()) {
                    t.remove(0);
                }
                string(t)
            }),
            FieldType::String,
        ),
        "concat" => (
            both().map(|(mut a, b)| {
                a.extend(b);
                string(a)
            }),
            FieldType::String,
        ),
        "substring" => {
            let length = if args.len() == 3 && args[2].value != V::Null {
                number(2)
            } else {
                Some(i128::from(i32::MAX))
            };
            let cut = |t: Vec<char>, start: i128, length: i128| {
                let from = if start < 0 {
                    (t.len() as i128 + start).max(0)
                } else {
                    start
                };
                let inside = |i: i128| i >= from && i < from + length.max(0);
                let kept = (0_i128..).zip(t).filter(|(i, _)| inside(*i));
                string(kept.map(|(_, c)| c).collect())
            };
            let cut_text = || Some(cut(text(0)?, number(1)?, length?));
            (cut_text(), FieldType::String)
        }
        _ => return None,
    };
    Some(Typed::of(value.unwrap_or(V::Null), ty))
}

fn time_call(name: &str, arg: &Typed) -> Typed {
    let ty = match name {
        "date" => FieldType::Date,
        "time" => FieldType::TimeOfDay,
        "fractionalseconds" => FieldType::Decimal,
        _ => FieldType::Int,
    };
    let mut value = arg.value.clone();
    if let (T::Unknown, V::Text(text)) = (&arg.ty, &value) {
        value = instant(text)
            .or_else(|| calendar(text).map(V::Day))
            .unwrap_or(V::Null);
    }
    let (days, nanos, offset) = match value {
        V::Day(days) => (Some(days), None, None),
        V::Time(nanos) => (None, Some(nanos), None),
        V::Instant(nanos, offset) => {
            let local = nanos + i128::from(offset) * 60_000_000_000;
            let days = i64::try_from(local.div_euclid(NANOS_A_DAY)).expect("a day fits");
            (
                Some(days),
                Some(local.rem_euclid(NANOS_A_DAY)),
                Some(offset),
            )
        }
        _ => return Typed::of(V::Null, ty),
    };
    let whole = |n: i128| V::Number(Fraction::whole(n));
    let second = 1_000_000_000;
    let result = match name {
        "date" => days.map(V::Day),
        "time" => nanos.map(V::Time),
        "year" => days.map(|d| whole(parts_of_day(d).0.into())),
        "month" => days.map(|d| whole(parts_of_day(d).1.into())),
        "day" => days.map(|d| whole(parts_of_day(d).2.into())),
        "hour" => nanos.map(|n| whole(n / second / 3_600)),
        "minute" => nanos.map(|n| whole(n / second / 60 % 60)),
        "second" => nanos.map(|n| whole(n / second % 60)),
        "fractionalseconds" => nanos.map(|n| V::Number(Fraction::of(n % second, second))),
        "totaloffsetminutes" => offset.map(|o| whole(o.into())),
        other => panic!("the reference knows no function {other}"),
    };
    Typed::of(result.unwrap_or(V::Null), ty)
}

/// `geo.*` by vectors on the sphere and winding numbers, not by the library's formulas.
fn geo(name: &str, args: &[Typed]) -> Option<Typed> {
    let point = |typed: &Typed| match &typed.value {
        V::Point(x, y) => Some((*x, *y)),
        V::Shape(Geography {
            shape: Shape::Point(p),
            ..
        }) => Some((p.longitude, p.latitude)),
        V::Json(json) => match declared(json, &FieldType::GeoPoint) {
            V::Point(x, y) => Some((x, y)),
            _ => None,
        },
        _ => None,
    };
    let srid = args.iter().find_map(|a| match &a.value {
        V::Shape(geography) => geography.srid,
        _ => None,
    });
    let radius = if srid == Some(3956) {
        3_956.0
    } else {
        6_371_008.8
    };
    let number = |distance: f64| {
        let text = format!("{distance:.6}");
        V::Number(Fraction::decimal(Decimal::parse(&text).expect("a number")))
    };
    let (value, ty) = match name {
        "geo.distance" => {
            let ends = point(&args[0]).zip(point(&args[1]));
            let value = ends.map(|(a, b)| number(radius * angle(a, b)));
            (value, FieldType::Decimal)
        }
        "geo.length" => {
            let V::Shape(Geography {
                shape: Shape::Line(line),
                ..
            }) = &args[0].value
            else {
                return Some(Typed::of(V::Null, FieldType::Decimal));
            };
            let pairs = line.windows(2);
            let at = |i: usize, w: &[relist::value::GeoPoint]| (w[i].longitude, w[i].latitude);
            let sum: f64 = pairs.map(|w| radius * angle(at(0, w), at(1, w))).sum();
            (Some(number(sum)), FieldType::Decimal)
        }
        "geo.intersects" => {
            let rings = args.iter().find_map(|a| match &a.value {
                V::Shape(Geography {
                    shape: Shape::Polygon(rings),
                    ..
                }) => Some(rings),
                _ => None,
            });
            let inside = args.iter().find_map(point).map(|p| {
                let around = |ring: &Vec<relist::value::GeoPoint>| winding(p, ring);
                let rings = rings.expect("a polygon was bound");
                let outside_holes = rings[1..].iter().all(|hole| around(hole) != Some(true));
                V::Bool(around(&rings[0]) != Some(false) && outside_holes)
            });
            (inside, FieldType::Bool)
        }
        _ => return None,
    };
    Some(Typed::of(value.unwrap_or(V::Null), ty))
}

/// The angle between two places seen from the centre of the earth.
fn angle(a: (f64, f64), b: (f64, f64)) -> f64 {
    let vector = |(lon, lat): (f64, f64)| {
        let (lon, lat) = (lon.to_radians(), lat.to_radians());
        [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
    };
    let (a, b) = (vector(a), vector(b));
    let cross = [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ];
    let dot: f64 = (0..3).map(|i| a[i] * b[i]).sum();
    let sine: f64 = cross.iter().map(|c| c * c).sum::<f64>().sqrt();
    sine.atan2(dot)
}

/// Whether a ring winds around a point; `None` on its border.
fn winding(p: (f64, f64), ring: &[relist::value::GeoPoint]) -> Option<bool> {
    let mut turns = 0;
    for (i, a) in ring.iter().enumerate() {
        let b = &ring[(i + 1) % ring.len()];
        let (ax, ay) = (a.longitude - p.0, a.latitude - p.1);
        let (bx, by) = (b.longitude - p.0, b.latitude - p.1);
        let side = ax * by - ay * bx;
        if side == 0.0 && ax * bx + ay * by <= 0.0 {
            return None;
        }
        if ay <= 0.0 && by > 0.0 && side > 0.0 {
            turns += 1;
        }
        if ay > 0.0 && by <= 0.0 && side < 0.0 {
            turns -= 1;
        }
    }
    Some(turns != 0)
}
