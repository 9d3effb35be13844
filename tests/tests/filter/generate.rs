//! Random entities and random filters that bind, made from bytes so that they shrink.

use relist::odata::{
    ArithOp, CompareOp, Expr, ExprKind, Lambda, Literal, Path, Quantifier, parse_filter,
};
use serde_json::{Map, Value as Json, json};

use super::sample::{APPLIANCES, CATEGORIES, STATUSES};

/// A source of choices: each takes a byte, and an exhausted source always takes the first choice.
pub(crate) struct Bytes<'b> {
    bytes: &'b [u8],
}

impl<'b> Bytes<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Bytes { bytes }
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        usize::from(*first) % n
    }

    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }
}

const WHOLE: [i64; 7] = [0, 1, 2, 3, -1, 5, 12];
const PRICES: [&str; 6] = ["100000", "100000.5", "2.50", "-3.75", "0.0", "7"];
const TEXTS: [&str; 8] = [
    "Provo",
    "Salt Lake City",
    "",
    "o",
    " Lake ",
    "O'Brien",
    "Éo lac",
    "PROVO",
];
const DAYS: [&str; 4] = ["2019-09-01", "2020-02-29", "1969-12-31", "2024-06-15"];
const INSTANTS: [&str; 5] = [
    "2019-09-01T00:00:00Z",
    "2019-09-01T10:30:15.25Z",
    "2019-08-31T18:00:00-06:00",
    "2024-06-15T12:00:00Z",
    "2020-02-29T23:30:00+05:45",
];
const TIMES: [&str; 3] = ["09:30:00", "00:00:00", "23:59:59.5"];
const GUIDS: [&str; 2] = [
    "4fa95bdc-dd9b-c990-ebc0-162e675da6e1",
    "00000000-0000-0000-0000-000000000001",
];
const PLACES: [(f64, f64); 6] = [
    (0.0, 0.0),
    (5.0, 5.0),
    (10.0, 5.0),
    (-111.898, 40.576),
    (2.0, 8.0),
    (4.0, 4.0),
];
const TAGS: [&str; 4] = ["a", "b", "Public", "a b"];

/// A spelling of a member: its name, its display text, or its letters with other signs between.
fn spelling(bytes: &mut Bytes<'_>, members: &[(&str, Option<&str>)]) -> String {
    let (name, display) = bytes.of(members);
    match bytes.below(4) {
        1 => display.unwrap_or(name).to_owned(),
        2 => display.unwrap_or(name).replace(' ', "-"),
        _ => name.to_owned(),
    }
}

fn list(bytes: &mut Bytes<'_>, mut item: impl FnMut(&mut Bytes<'_>) -> Json) -> Json {
    let count = bytes.below(4);
    Json::Array((0..count).map(|_| item(bytes)).collect())
}

/// A listing: any field may be absent, null or of another type than declared.
pub(crate) fn entity(bytes: &mut Bytes<'_>) -> Json {
    let mut entity = Map::new();
    for name in [
        "ListPrice",
        "City",
        "StandardStatus",
        "BedroomsTotal",
        "Appliances",
        "Media",
        "CloseDate",
        "ModificationTimestamp",
        "GeoLocation",
        "WaterfrontYN",
        "Tags",
        "ListingKeyNumeric",
        "ClosePrice",
        "ShowingStartTime",
        "SourceGuid",
        "RoomType",
        "Extra",
        "StreetName",
    ] {
        let value = match bytes.below(12) {
            0 => continue,
            1 => Json::Null,
            2 => bytes.of(&[json!("TBD"), json!(7), json!(true), json!("2.5"), json!("")]),
            _ => value_of(bytes, name),
        };
        entity.insert(name.to_owned(), value);
    }
    Json::Object(entity)
}

fn value_of(bytes: &mut Bytes<'_>, name: &str) -> Json {
    let number = |text: &str| serde_json::from_str(text).expect("a number");
    match name {
        "ListPrice" | "ClosePrice" => number(bytes.of(&PRICES)),
        "BedroomsTotal" | "ListingKeyNumeric" => match bytes.below(5) {
            1 => number("3.0"),
            _ => json!(bytes.of(&WHOLE)),
        },
        "City" | "StreetName" => json!(bytes.of(&TEXTS)),
        "RoomType" => json!(bytes.of(&["Den", "Den, Office", "Office", "Sun Room,Den"])),
        "StandardStatus" => match bytes.below(6) {
            1 => json!("Coming Soon"),
            _ => json!(spelling(bytes, &STATUSES)),
        },
        "Appliances" => match bytes.below(5) {
            1 => json!("Microwave, Gas Range"),
            _ => list(bytes, |b| json!(spelling(b, &APPLIANCES))),
        },
        "Tags" => list(bytes, |b| json!(b.of(&TAGS))),
        "CloseDate" => json!(bytes.of(&DAYS)),
        "ModificationTimestamp" => json!(bytes.of(&INSTANTS)),
        "ShowingStartTime" => json!(bytes.of(&TIMES)),
        "SourceGuid" => json!(bytes.of(&GUIDS)),
        "WaterfrontYN" => json!(bytes.chance(2)),
        "GeoLocation" => {
            let (x, y) = bytes.of(&PLACES);
            json!({"type": "Point", "coordinates": [x, y]})
        }
        "Media" => list(bytes, media),
        _ => extra(bytes),
    }
}

fn media(bytes: &mut Bytes<'_>) -> Json {
    let mut media = json!({"MediaKey": bytes.of(&TAGS), "Order": bytes.of(&WHOLE)});
    if !bytes.chance(4) {
        media["MediaCategory"] = json!(spelling(bytes, &CATEGORIES));
    }
    if !bytes.chance(4) {
        media["MediaModificationTimestamp"] = json!(bytes.of(&INSTANTS));
    }
    if !bytes.chance(3) {
        media["Permission"] = list(bytes, |b| json!(b.of(&TAGS)));
    }
    media
}

fn extra(bytes: &mut Bytes<'_>) -> Json {
    json!({
        "Rank": bytes.of(&WHOLE),
        "Since": bytes.of(&DAYS),
        "Seen": bytes.of(&INSTANTS),
        "Name": bytes.of(&TEXTS),
        "Scores": list(bytes, |b| json!(b.of(&WHOLE))),
    })
}

/// A filter on Property that binds.
pub(crate) fn filter(bytes: &mut Bytes<'_>) -> Expr {
    Filters {
        bytes,
        scopes: Vec::new(),
    }
    .truth(4)
}

/// What a lambda variable in scope stands for.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Text,
    Appliance,
    Media,
    Score,
}

struct Filters<'f, 'b> {
    bytes: &'f mut Bytes<'b>,
    scopes: Vec<(String, Scope)>,
}

fn lit(text: &str) -> Expr {
    parse_filter(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn string(text: &str) -> Expr {
    Expr::new(ExprKind::Literal(Literal::String(text.to_owned())))
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let name = name.into();
    Expr::new(ExprKind::Call { name, args })
}

fn compare(op: CompareOp, left: Expr, right: Expr) -> Expr {
    let (left, right) = (Box::new(left), Box::new(right));
    Expr::new(ExprKind::Compare { op, left, right })
}

const ANY_OP: [CompareOp; 6] = [
    CompareOp::Eq,
    CompareOp::Ne,
    CompareOp::Gt,
    CompareOp::Ge,
    CompareOp::Lt,
    CompareOp::Le,
];
const EQUALITY: [CompareOp; 2] = [CompareOp::Eq, CompareOp::Ne];

impl Filters<'_, '_> {
    fn variable(&mut self, scope: Scope) -> Option<String> {
        let found = self.scopes.iter().rev().find(|(_, s)| *s == scope);
        let name = found.map(|(name, _)| name.clone())?;
        self.bytes.chance(2).then_some(name)
    }

    fn field(&mut self, name: &str) -> Expr {
        if self.bytes.chance(8) {
            return lit(&format!("$it/{name}"));
        }
        lit(name)
    }

    /// A boolean expression of at most so many levels.
    fn truth(&mut self, depth: usize) -> Expr {
        if depth == 0 {
            return self.field("WaterfrontYN");
        }
        match self.bytes.below(16) {
            0 | 1 => {
                let op = self.bytes.of(&ANY_OP);
                compare(op, self.number(depth - 1), self.number(depth - 1))
            }
            2 => {
                let op = self.bytes.of(&ANY_OP);
                compare(op, self.text(depth - 1), self.text(depth - 1))
            }
            3 | 4 => {
                let count = 2 + self.bytes.below(2);
                let operands = (0..count).map(|_| self.truth(depth - 1)).collect();
                Expr::new(if self.bytes.chance(2) {
                    ExprKind::Or(operands)
                } else {
                    ExprKind::And(operands)
                })
            }
            5 => Expr::new(ExprKind::Not(Box::new(self.truth(depth - 1)))),
            6 => self.instants(depth - 1),
            7 => self.texts(depth - 1),
            8 => self.nulls(depth - 1),
            9 => self.inside(depth - 1),
            10 | 11 => self.lookups(),
            12 | 13 => self.lambda(depth - 1),
            14 => self.places(),
            _ => self.others(depth - 1),
        }
    }

    fn number(&mut self, depth: usize) -> Expr {
        if let Some(media) = self.variable(Scope::Media) {
            return lit(&format!("{media}/Order"));
        }
        if let Some(score) = self.variable(Scope::Score) {
            return lit(&score);
        }
        if depth == 0 {
            return self.number_leaf();
        }
        match self.bytes.below(9) {
            0..=3 => self.number_leaf(),
            4 => {
                let op = self.bytes.of(&[ArithOp::Add, ArithOp::Sub, ArithOp::Mul]);
                let left = Box::new(self.number(depth - 1));
                let right = Box::new(self.number(depth - 1));
                Expr::new(ExprKind::Arith { op, left, right })
            }
            5 => {
                let op = self.bytes.of(&[ArithOp::Div, ArithOp::DivBy, ArithOp::Mod]);
                let left = Box::new(self.number_leaf());
                let by = ["2", "3", "-7", "2.5", "BedroomsTotal", "ListPrice"];
                let right = Box::new(lit(self.bytes.of(&by)));
                Expr::new(ExprKind::Arith { op, left, right })
            }
            6 => Expr::new(ExprKind::Neg(Box::new(self.number(depth - 1)))),
            7 => {
                let name = self.bytes.of(&["round", "floor", "ceiling"]);
                call(name, vec![self.number(depth - 1)])
            }
            _ => self.counted(depth - 1),
        }
    }

    fn number_leaf(&mut self) -> Expr {
        match self.bytes.below(10) {
            0 => self.field("ListPrice"),
            1 => self.field("BedroomsTotal"),
            2 => lit("ClosePrice"),
            3 | 4 => lit(&self.bytes.of(&WHOLE).to_string()),
            5 | 6 => lit(self.bytes.of(&PRICES)),
            7 => lit("ListingKeyNumeric"),
            8 => lit("Extra/Rank"),
            _ => lit(self
                .bytes
                .of(&["Media/$count", "Tags/$count", "Appliances/$count"])),
        }
    }

    /// A number computed from something that is none.
    fn counted(&mut self, depth: usize) -> Expr {
        match self.bytes.below(4) {
            0 => call("length", vec![self.text(depth)]),
            1 => call("indexof", vec![self.text(depth), self.text_leaf()]),
            2 => {
                let name = self.bytes.of(&["year", "month", "day"]);
                call(name, vec![self.day_or_instant()])
            }
            _ => {
                let name = self.bytes.of(&[
                    "hour",
                    "minute",
                    "second",
                    "fractionalseconds",
                    "totaloffsetminutes",
                ]);
                let arg = if name == "totaloffsetminutes" || self.bytes.chance(2) {
                    self.instant()
                } else {
                    self.time()
                };
                call(name, vec![arg])
            }
        }
    }

    fn text(&mut self, depth: usize) -> Expr {
        if depth == 0 {
            return self.text_leaf();
        }
        match self.bytes.below(8) {
            0..=3 => self.text_leaf(),
            4 => {
                let name = self.bytes.of(&["tolower", "toupper", "trim"]);
                call(name, vec![self.text(depth - 1)])
            }
            5 => call("concat", vec![self.text(depth - 1), self.text(depth - 1)]),
            _ => {
                let mut args = vec![self.text(depth - 1)];
                args.push(lit(&self.bytes.of(&WHOLE).to_string()));
                if self.bytes.chance(2) {
                    args.push(lit(&self.bytes.of(&WHOLE).to_string()));
                }
                call("substring", args)
            }
        }
    }

    fn text_leaf(&mut self) -> Expr {
        if let Some(item) = self.variable(Scope::Text) {
            return lit(&item);
        }
        if let Some(media) = self.variable(Scope::Media) {
            return lit(&format!("{media}/MediaKey"));
        }
        match self.bytes.below(6) {
            0 => self.field("City"),
            1 => lit("StreetName"),
            2 => lit("Extra/Name"),
            3 => string(self.bytes.of(&TAGS)),
            _ => string(self.bytes.of(&TEXTS)),
        }
    }

    fn texts(&mut self, depth: usize) -> Expr {
        let name = self.bytes.of(&["contains", "startswith", "endswith"]);
        let text = match self.bytes.below(4) {
            1 => lit("StandardStatus"),
            _ => self.text(depth),
        };
        call(name, vec![text, self.text_leaf()])
    }

    fn day_or_instant(&mut self) -> Expr {
        match self.bytes.below(5) {
            0 | 1 => lit(self.bytes.of(&["CloseDate", "Extra/Since"])),
            2 => lit(self.bytes.of(&DAYS)),
            3 => call("date", vec![self.instant()]),
            _ => self.instant(),
        }
    }

    fn instant(&mut self) -> Expr {
        if let Some(media) = self.variable(Scope::Media) {
            return lit(&format!("{media}/MediaModificationTimestamp"));
        }
        match self.bytes.below(8) {
            0..=2 => self.field("ModificationTimestamp"),
            3..=5 => lit(self.bytes.of(&INSTANTS)),
            6 => lit("Extra/Seen"),
            _ => call(
                self.bytes.of(&["now", "mindatetime", "maxdatetime"]),
                vec![],
            ),
        }
    }

    fn time(&mut self) -> Expr {
        match self.bytes.below(3) {
            0 => lit("ShowingStartTime"),
            1 => lit(self.bytes.of(&TIMES)),
            _ => call("time", vec![self.instant()]),
        }
    }

    fn instants(&mut self, _depth: usize) -> Expr {
        let op = self.bytes.of(&ANY_OP);
        if self.bytes.chance(3) {
            return compare(op, self.time(), self.time());
        }
        // Two strings of nested JSON have no common type to be read as.
        let left = lit(self.bytes.of(&["CloseDate", "ModificationTimestamp"]));
        let right = self.day_or_instant();
        if self.bytes.chance(2) {
            return compare(op, left, right);
        }
        compare(op, right, left)
    }

    fn nulls(&mut self, depth: usize) -> Expr {
        let op = self.bytes.of(&ANY_OP);
        let operand = match self.bytes.below(6) {
            0 => self.number(depth),
            1 => self.text(depth),
            2 => self.instant(),
            3 => lit("Appliances"),
            4 => lit("GeoLocation"),
            _ => self.truth(depth),
        };
        let orderless = operand.to_string() == "Appliances" || operand.to_string() == "GeoLocation";
        let op = if orderless { CompareOp::Eq } else { op };
        compare(op, operand, lit("null"))
    }

    fn inside(&mut self, depth: usize) -> Expr {
        let count = self.bytes.below(4);
        let (value, mut items): (Expr, Vec<Expr>) = match self.bytes.below(6) {
            0 => (
                self.number(depth),
                (0..count).map(|_| self.number_leaf()).collect(),
            ),
            1 => (
                self.text(depth),
                (0..count).map(|_| self.text_leaf()).collect(),
            ),
            2 => {
                let items = (0..count).map(|_| self.member("StandardStatus", &STATUSES));
                (lit("StandardStatus"), items.collect())
            }
            3 => {
                let items = (0..count).map(|_| lit(self.bytes.of(&DAYS)));
                (lit("CloseDate"), items.collect())
            }
            4 => {
                let value = string(&spelling(self.bytes, &APPLIANCES));
                let set = lit("Appliances");
                return member_of(value, set);
            }
            _ => {
                let value = self.text(depth);
                return member_of(value, lit("Tags"));
            }
        };
        if self.bytes.chance(4) {
            items.push(lit("null"));
        }
        member_of(value, Expr::new(ExprKind::List(items)))
    }

    /// A member as a plain string or as an enumeration literal.
    fn member(&mut self, ty: &str, members: &[(&str, Option<&str>)]) -> Expr {
        let text = spelling(self.bytes, members);
        match self.bytes.below(3) {
            1 => lit(&format!("Odata.Models.{ty}'{text}'")),
            2 => lit(&format!("{ty}'{text}'")),
            _ => string(&text),
        }
    }

    fn lookups(&mut self) -> Expr {
        let op = self.bytes.of(&EQUALITY);
        if let Some(item) = self.variable(Scope::Appliance) {
            return compare(op, lit(&item), self.member("Appliances", &APPLIANCES));
        }
        if let Some(media) = self.variable(Scope::Media) {
            let left = lit(&format!("{media}/MediaCategory"));
            return compare(op, left, self.member("MediaCategory", &CATEGORIES));
        }
        let has = |left: &str, right: Expr| {
            let (left, right) = (Box::new(lit(left)), Box::new(right));
            Expr::new(ExprKind::Has { left, right })
        };
        match self.bytes.below(7) {
            0 | 1 => compare(
                op,
                self.field("StandardStatus"),
                self.member("StandardStatus", &STATUSES),
            ),
            2 => has("StandardStatus", self.member("StandardStatus", &STATUSES)),
            3 => {
                let first = spelling(self.bytes, &APPLIANCES);
                let second = spelling(self.bytes, &APPLIANCES);
                let both = string(&format!("{first},{second}"));
                if self.bytes.chance(2) {
                    has("Appliances", both)
                } else {
                    compare(op, lit("Appliances"), both)
                }
            }
            4 => has("Appliances", self.member("Appliances", &APPLIANCES)),
            5 => has("Tags", string(self.bytes.of(&["a", "b", "a,b"]))),
            _ => {
                let asked = ["'Den'", "'Sun Room'", "RoomType'SunRoom'", "'Den,Office'"];
                has("RoomType", lit(self.bytes.of(&asked)))
            }
        }
    }

    fn lambda(&mut self, depth: usize) -> Expr {
        let (collection, scope) = self.bytes.of(&[
            ("Media", Scope::Media),
            ("Tags", Scope::Text),
            ("Appliances", Scope::Appliance),
            ("Extra/Scores", Scope::Score),
            ("m/Permission", Scope::Text),
        ]);
        let inside_media = self.scopes.iter().any(|(name, _)| name == "m");
        let (collection, scope) = if collection == "m/Permission" && !inside_media {
            ("Media", Scope::Media)
        } else {
            (collection, scope)
        };
        let names = collection.split('/').map(Into::into).collect();
        let collection = Path { names };
        if self.bytes.chance(6) {
            return Expr::new(ExprKind::Lambda {
                collection,
                quantifier: Quantifier::Any,
                body: None,
            });
        }
        let quantifier = self.bytes.of(&[Quantifier::Any, Quantifier::All]);
        let variable = match scope {
            Scope::Media => "m",
            Scope::Text => "t",
            Scope::Appliance => "a",
            Scope::Score => "s",
        };
        self.scopes.push((variable.to_owned(), scope));
        let condition = Box::new(self.truth(depth.min(2)));
        self.scopes.pop();
        Expr::new(ExprKind::Lambda {
            collection,
            quantifier,
            body: Some(Lambda {
                variable: variable.into(),
                condition,
            }),
        })
    }

    fn places(&mut self) -> Expr {
        let (x, y) = self.bytes.of(&PLACES);
        let srid = self.bytes.of(&["", "SRID=3956;", "SRID=4326;"]);
        let place = lit(&format!("geography'{srid}POINT({x} {y})'"));
        let at = match self.bytes.below(4) {
            0..=2 => lit("GeoLocation"),
            _ => place.clone(),
        };
        match self.bytes.below(5) {
            0 | 1 => {
                let op = self.bytes.of(&ANY_OP);
                let far = self.bytes.of(&["0", "1", "400", "650000.5", "9000"]);
                compare(op, call("geo.distance", vec![at, place]), lit(far))
            }
            2 | 3 => {
                let rings = self.bytes.of(&[
                    "(0 0,10 0,10 10,0 10,0 0)",
                    "(0 0,10 0,0 10)",
                    "(0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4)",
                    "(0 0,10 0,10 10,5 5,0 10)",
                    "(-112 40,-111 40,-111 41,-112 41)",
                ]);
                let area = lit(&format!("geography'{srid}POLYGON({rings})'"));
                call("geo.intersects", vec![at, area])
            }
            _ => {
                let op = self.bytes.of(&ANY_OP);
                let line = format!("geography'{srid}LINESTRING({x} {y},1 2,3 4)'");
                let length = call("geo.length", vec![lit(&line)]);
                compare(op, length, self.number_leaf())
            }
        }
    }

    fn others(&mut self, depth: usize) -> Expr {
        let op = self.bytes.of(&EQUALITY);
        match self.bytes.below(5) {
            0 => compare(op, lit("SourceGuid"), lit(self.bytes.of(&GUIDS))),
            1 => compare(op, lit("SourceGuid"), string(self.bytes.of(&GUIDS))),
            2 => compare(op, self.truth(depth), self.truth(depth)),
            3 => lit(self.bytes.of(&["true", "false", "null"])),
            _ => self.field("WaterfrontYN"),
        }
    }
}

fn member_of(value: Expr, set: Expr) -> Expr {
    let (value, set) = (Box::new(value), Box::new(set));
    Expr::new(ExprKind::In { value, set })
}
