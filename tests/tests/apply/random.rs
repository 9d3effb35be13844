//! Random texts of `$apply` that bind, made from bytes so that they shrink.

use super::generate::{Bytes, filter};

/// What a column holds, as far as it decides what may be said of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Holds {
    Number,
    Text,
    Truth,
    Day,
    Instant,
    Other,
}

/// A column and what it holds.
type Column = (String, Holds);

const RECORDS: [(&str, Holds); 16] = [
    ("City", Holds::Text),
    ("StandardStatus", Holds::Text),
    ("BedroomsTotal", Holds::Number),
    ("ListPrice", Holds::Number),
    ("ClosePrice", Holds::Number),
    ("CloseDate", Holds::Day),
    ("ModificationTimestamp", Holds::Instant),
    ("WaterfrontYN", Holds::Truth),
    ("ShowingStartTime", Holds::Other),
    ("SourceGuid", Holds::Other),
    ("RoomType", Holds::Text),
    ("StreetName", Holds::Text),
    ("ListingKeyNumeric", Holds::Number),
    ("Extra/Rank as Rank", Holds::Other),
    ("Extra/Name as InnerName", Holds::Other),
    ("Extra as Nested", Holds::Other),
];

/// The text of an `$apply` on Property.
pub(crate) fn apply(bytes: &mut Bytes<'_>) -> String {
    let mut maker = Maker {
        bytes,
        names: 0,
        averaged: false,
        of_groups: false,
        columns: Vec::new(),
    };
    maker.whole()
}

struct Maker<'m, 'b> {
    bytes: &'m mut Bytes<'b>,
    names: usize,
    /// A mean of means has more digits than the reference's fractions hold.
    averaged: bool,
    of_groups: bool,
    columns: Vec<Column>,
}

impl Maker<'_, '_> {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("X{}", self.names)
    }

    fn whole(&mut self) -> String {
        let mut steps = Vec::new();
        let mut fields: Vec<Column> = RECORDS
            .iter()
            .map(|(name, holds)| ((*name).to_owned(), *holds))
            .collect();
        for _ in 0..self.bytes.below(3) {
            let step = self.of_records(&mut fields);
            steps.push(step);
        }
        steps.push(if self.bytes.chance(5) {
            let items = self.aggregates(&fields);
            format!("aggregate({items})")
        } else {
            self.group_by(&fields)
        });
        self.of_groups = true;
        for _ in 0..self.bytes.below(4) {
            steps.push(self.of_groups(2));
        }
        steps.join("/")
    }

    /// A step that may stand before the grouping.
    fn of_records(&mut self, fields: &mut Vec<Column>) -> String {
        match self.bytes.below(5) {
            0 => "identity".to_owned(),
            1 => format!("filter({})", filter(self.bytes)),
            2 => format!("filter({})", self.condition(fields)),
            _ => {
                let (expr, holds) = self.expression(fields);
                let name = self.name();
                fields.push((name.clone(), holds));
                format!("compute({expr} as {name})")
            }
        }
    }

    fn group_by(&mut self, fields: &[Column]) -> String {
        let mut keys = Vec::new();
        let mut columns = Vec::new();
        for _ in 0..=self.bytes.below(3) {
            let (text, column) = self.key(fields);
            if columns.iter().all(|(name, _): &Column| *name != column.0) {
                keys.push(text);
                columns.push(column);
            }
        }
        let keys = keys.join(",");
        if self.bytes.chance(6) {
            self.columns = columns;
            return format!("groupby(({keys}))");
        }
        let mut within = fields.to_vec();
        let mut then = Vec::new();
        for _ in 0..self.bytes.below(3) {
            let step = self.of_records(&mut within);
            then.push(step);
        }
        let items = self.aggregates(&within);
        then.push(format!("aggregate({items})"));
        // Within the group there is what was aggregated; the keys come back outside.
        let given = std::mem::take(&mut self.columns);
        if self.bytes.chance(4) {
            let condition = self.condition(&given);
            then.push(format!("filter({condition})"));
        }
        columns.extend(given);
        self.columns = columns;
        format!("groupby(({keys}),{})", then.join("/"))
    }

    fn key(&mut self, fields: &[Column]) -> (String, Column) {
        if !self.bytes.chance(3) {
            let (text, holds) = self.bytes.of(fields);
            let name = text.rsplit(' ').next().unwrap().to_owned();
            return (text, (name, holds));
        }
        let (text, name, holds) = self.bytes.of(&[
            ("year(CloseDate)", "YearCloseDate", Holds::Number),
            ("month(CloseDate) as Month", "Month", Holds::Number),
            (
                "day(ModificationTimestamp)",
                "DayModificationTimestamp",
                Holds::Number,
            ),
            (
                "hour(ModificationTimestamp)",
                "HourModificationTimestamp",
                Holds::Number,
            ),
            ("date(ModificationTimestamp) as Day", "Day", Holds::Day),
            ("tolower(City)", "TolowerCity", Holds::Text),
            ("length(City) as Letters", "Letters", Holds::Number),
            (
                "floor(ListPrice div 1000) as Bucket",
                "Bucket",
                Holds::Number,
            ),
            ("ListPrice gt 5 as Dear", "Dear", Holds::Truth),
            ("null as Nothing", "Nothing", Holds::Other),
            ("Tags/$count as Tagged", "Tagged", Holds::Number),
        ]);
        (text.to_owned(), (name.to_owned(), holds))
    }

    /// Aggregates of some fields; the columns are what they give.
    fn aggregates(&mut self, fields: &[Column]) -> String {
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for _ in 0..=self.bytes.below(3) {
            let name = self.name();
            let (text, holds) = self.aggregate(fields);
            items.push(format!("{text} as {name}"));
            columns.push((name, holds));
        }
        self.columns = columns;
        items.join(",")
    }

    fn aggregate(&mut self, fields: &[Column]) -> (String, Holds) {
        if self.bytes.chance(5) {
            return ("$count".to_owned(), Holds::Number);
        }
        if self.bytes.chance(8) {
            let of = self.bytes.of(&["Tags", "GeoLocation", "Appliances"]);
            if !self.of_groups {
                return (format!("{of} with countdistinct"), Holds::Number);
            }
        }
        let (expr, holds) = if self.bytes.chance(4) {
            self.expression(fields)
        } else {
            self.bytes.of(fields)
        };
        let expr = expr.split(" as ").next().unwrap().to_owned();
        let method = match holds {
            Holds::Number | Holds::Other if !expr.contains("Guid") && !expr.contains("Time") => {
                self.bytes.of(&[
                    "sum",
                    "average",
                    "median",
                    "Relist.p90",
                    "Relist.percentile10",
                    "p33",
                    "min",
                    "max",
                    "countdistinct",
                ])
            }
            _ => self.bytes.of(&["min", "max", "countdistinct"]),
        };
        let method = match method {
            "average" if std::mem::replace(&mut self.averaged, true) => "sum",
            other => other,
        };
        let gives = match method {
            "min" | "max" => holds,
            _ => Holds::Number,
        };
        // What is dynamic or of a rare kind can be anything still.
        let numbers = matches!(method, "sum" | "average" | "median" | "countdistinct")
            || method.contains('p');
        let odd = holds == Holds::Other && numbers && self.is_odd(&expr);
        if odd {
            return (format!("{expr} with countdistinct"), Holds::Number);
        }
        (format!("{expr} with {method}"), gives)
    }

    /// Whether a name stands for a value that is no number and no dynamic one.
    fn is_odd(&self, expr: &str) -> bool {
        expr.starts_with('X') || expr.starts_with('N') || expr.starts_with('S')
    }

    fn of(&mut self, columns: &[Column], wanted: Holds) -> Option<String> {
        let fitting: Vec<&Column> = columns.iter().filter(|(_, h)| *h == wanted).collect();
        if fitting.is_empty() {
            return None;
        }
        let name = self.bytes.of(&fitting).0.clone();
        Some(name.split(" as ").next().unwrap().to_owned())
    }

    fn expression(&mut self, columns: &[Column]) -> (String, Holds) {
        let wanted = self.bytes.of(&[
            Holds::Number,
            Holds::Number,
            Holds::Text,
            Holds::Day,
            Holds::Instant,
        ]);
        let Some(name) = self.of(columns, wanted) else {
            return ("7".to_owned(), Holds::Number);
        };
        let (forms, gives): (&[&str], Holds) = match wanted {
            Holds::Number => (
                &[
                    "@ mul 2",
                    "@ add 1.50",
                    "floor(@)",
                    "-@",
                    "@ sub 3",
                    "@ mod 2",
                ],
                Holds::Number,
            ),
            Holds::Text => (&["tolower(@)", "concat(@,'!')", "trim(@)"], Holds::Text),
            Holds::Day => (&["year(@)", "month(@)", "day(@)"], Holds::Number),
            _ => (&["hour(@)", "year(@)", "second(@)"], Holds::Number),
        };
        (self.bytes.of(forms).replace('@', &name), gives)
    }

    fn condition(&mut self, columns: &[Column]) -> String {
        let wanted = self
            .bytes
            .of(&[Holds::Number, Holds::Text, Holds::Truth, Holds::Day]);
        let Some(name) = self.of(columns, wanted) else {
            return "true".to_owned();
        };
        let forms: &[&str] = match wanted {
            Holds::Number => &["@ gt 1", "@ ne null", "@ le 100000.5", "not (@ eq 3)"],
            Holds::Text => &[
                "@ ne null",
                "contains(@,'o')",
                "@ eq null",
                "length(@) gt 3",
            ],
            Holds::Truth => &["@", "@ eq false", "@ eq null"],
            _ => &["@ ge 2019-09-01", "@ eq null", "year(@) ne 2020"],
        };
        self.bytes.of(forms).replace('@', &name)
    }

    fn any(&mut self) -> String {
        let columns = self.columns.clone();
        self.bytes.of(&columns).0
    }

    fn of_groups(&mut self, depth: usize) -> String {
        let columns = self.columns.clone();
        match self.bytes.below(if depth > 0 { 12 } else { 8 }) {
            0 => "identity".to_owned(),
            1 => format!("filter({})", self.condition(&columns)),
            2 => {
                let (expr, holds) = self.expression(&columns);
                let name = self.name();
                self.columns.push((name.clone(), holds));
                format!("compute({expr} as {name})")
            }
            3 => {
                let order = self.bytes.of(&["", " desc", " asc"]);
                let (first, second) = (self.any(), self.any());
                format!("orderby({first}{order},{second} desc)")
            }
            4 => format!("top({})", self.bytes.below(5)),
            5 => format!("skip({})", self.bytes.below(3)),
            6 => {
                let count = self.bytes.below(4);
                let name = self.bytes.of(&["topcount", "bottomcount"]);
                format!("{name}({count},{})", self.any())
            }
            7 => {
                let Some(number) = self.of(&columns, Holds::Number) else {
                    return "identity".to_owned();
                };
                let name = self
                    .bytes
                    .of(&["topsum", "bottomsum", "toppercent", "bottompercent"]);
                let amount = self.bytes.of(&["10", "50", "100000.5", "0", "99"]);
                format!("{name}({amount},{number})")
            }
            8 => {
                let items = self.aggregates(&columns);
                format!("aggregate({items})")
            }
            9 | 10 => {
                let key = self.any();
                let holds = columns.iter().find(|(name, _)| *name == key).unwrap().1;
                let items = self.aggregates(&columns);
                self.columns.insert(0, (key.clone(), holds));
                format!("groupby(({key}),aggregate({items}))")
            }
            _ => {
                let key = self.any();
                let then = self.of_kept(depth - 1);
                format!("groupby(({key}),{then})")
            }
        }
    }

    /// A step that keeps the columns as they are.
    fn of_kept(&mut self, depth: usize) -> String {
        let before = self.columns.clone();
        let step = self.of_groups(0.min(depth));
        if self.columns == before {
            return step;
        }
        self.columns = before;
        "top(1)".to_owned()
    }
}
