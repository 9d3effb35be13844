//! Filters on columns: one condition at a time over a whole segment.
//!
//! A condition on one field is asked of each distinct cell of a dictionary, or becomes a range of
//! integers; what reads several fields is asked of each row that is left. Segments whose range
//! shows that nothing can pass are skipped.

use std::sync::atomic::{AtomicU8, Ordering};

use super::table::{Table, View, value_of};
use crate::column::{
    Dictionary, Mask, Numbers, SEGMENT_ROWS, Segment, Texts, Unit, Values, on_all_cores,
};
use crate::error::Result;
use crate::odata::{Circle, CompareOp, Conjunct, FieldTest, GeoBox, GeoField, Predicate};
use crate::record::Cell;
use crate::record::codec::Reader;
use crate::schema::{FieldId, FieldType};
use crate::value::{Decimal, GeoPoint, Value};

/// The rows of each segment that pass, and what it took.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) masks: Vec<Mask>,
    /// Segments no row of which was looked at.
    pub(super) skipped: u64,
    /// Rows of the others that were looked at.
    pub(super) examined: u64,
    /// The fields whose indexes were asked.
    pub(super) indexes: Vec<FieldId>,
}

impl Selection {
    pub(super) fn count(&self) -> u64 {
        self.masks.iter().map(Mask::count).sum()
    }

    /// The slots that pass, ascending.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let masks = (0_u32..).zip(&self.masks);
        masks.flat_map(|(segment, mask)| mask.rows().map(move |row| slot_of(segment, row)))
    }
}

pub(super) fn slot_of(segment: u32, row: usize) -> u32 {
    segment * SEGMENT_ROWS + u32::try_from(row).unwrap_or(0)
}

/// A condition on one field.
struct Step<'p> {
    at: usize,
    ty: FieldType,
    conjunct: Conjunct<'p>,
    range: Option<Range>,
    /// Which codes pass, where the column has a dictionary.
    codes: Codes,
    /// The circle that a point is to be in.
    circle: Option<Circle>,
    /// The hash of the text that a text is to equal.
    text: Option<u32>,
    /// Whether an absent value or null passes.
    null_passes: bool,
    /// Whether to look for its rows by sorted access.
    sorted: bool,
}

/// A segment of which fewer rows than one in so many can pass is asked row by row.
const NARROW: usize = 16;
/// So many rows in all are asked by one core as fast as by several.
const FEW: usize = 20_000;

/// The box of a condition on geography: what is outside of it passes nowhere.
struct Near {
    found: GeoBox,
    /// The places of the columns in the view: of the points, or of latitude and longitude, each
    /// with its bounds.
    place: Place,
}

enum Place {
    Point(usize),
    Pair([(usize, Decimal, Decimal); 2]),
}

impl Near {
    /// `None` where there is no such condition.
    fn new(predicate: &Predicate, view: &View<'_>) -> Option<Self> {
        let found = predicate.geo_box()?;
        let place = |field: &FieldId| {
            view.columns
                .binary_search_by_key(field, |(id, ..)| *id)
                .ok()
        };
        let bound = |field: FieldId, low: f64, high: f64| {
            // A little wider than it need be: digits behind the twelfth are cut.
            let decimal = |degrees: f64| Decimal::parse(&format!("{degrees:.12}"));
            Some((place(&field)?, decimal(low - 1e-9)?, decimal(high + 1e-9)?))
        };
        let (least, greatest) = (found.least, found.greatest);
        let place = match found.field {
            GeoField::Point(field) => Place::Point(place(&field)?),
            GeoField::Pair {
                latitude,
                longitude,
            } => Place::Pair([
                bound(latitude, least.latitude, greatest.latitude)?,
                bound(longitude, least.longitude, greatest.longitude)?,
            ]),
        };
        Some(Near { found, place })
    }

    /// Takes out the rows that are outside; what is in doubt is left to the condition itself.
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "without branches compilers compare many at a time"
    )]
    fn keep(&self, view: &View<'_>, number: u32, mask: &mut Mask) {
        let segment = |at: usize| {
            let (.., column) = view.columns.get(at)?;
            Some((column.segment(number)?, &*column.dictionary))
        };
        match &self.place {
            Place::Point(at) => {
                let Some((segment, dictionary)) = segment(*at).filter(|(s, _)| !s.is_elsewhere())
                else {
                    return;
                };
                let points = points_of(segment, dictionary);
                let (least, greatest) = (self.found.least, self.found.greatest);
                mask.retain(points, |p| {
                    (p.latitude >= least.latitude)
                        & (p.latitude <= greatest.latitude)
                        & (p.longitude >= least.longitude)
                        & (p.longitude <= greatest.longitude)
                });
            }
            Place::Pair(bounds) => {
                for (at, low, high) in bounds {
                    if let Some((segment, _)) = segment(*at)
                        && let Values::Numbers(numbers) = &segment.values
                        && numbers.unit == Unit::Number
                    {
                        let bounds = |op, constant| {
                            let unit = Unit::Number;
                            Range { op, unit, constant }.bounds(numbers.scale)
                        };
                        let (low, _) = bounds(CompareOp::Ge, *low);
                        let (_, high) = bounds(CompareOp::Le, *high);
                        mask.retain(&numbers.values, |v| (*v >= low) & (*v <= high));
                    }
                }
            }
        }
    }
}

/// The points of a segment's rows.
fn points_of<'s>(segment: &'s Segment, dictionary: &Dictionary) -> &'s [GeoPoint] {
    segment.points(
        |row| match value_of(segment, dictionary, row, &FieldType::GeoPoint)? {
            Value::GeoPoint(point) => Some(point),
            _ => None,
        },
    )
}

/// Which codes pass.
enum Codes {
    None,
    One(u16),
    Some(Vec<bool>),
    /// Of a large dictionary each code is asked about when it is first met: 0 before.
    Asked(Vec<AtomicU8>),
}

/// The most codes that are all asked about beforehand.
const ASKED_AT_ONCE: usize = 2_048;
const PASSES: u8 = 1;
const FAILS: u8 = 2;

/// A comparison with a number: passes from `low` to `high`, or without `within` outside of them.
#[derive(Debug, Clone, Copy)]
struct Range {
    op: CompareOp,
    unit: Unit,
    constant: Decimal,
}

/// The rows that a predicate lets through.
pub(super) fn select(table: &Table<'_>, predicate: Option<&Predicate>) -> Result<Selection> {
    let Some(predicate) = predicate else {
        return Ok(Selection {
            masks: table.live.as_ref().clone(),
            skipped: u64::from(table.segments()),
            examined: 0,
            indexes: Vec::new(),
        });
    };
    let view = table.view(predicate.fields())?;
    let near = Near::new(predicate, &view);
    let conjuncts = predicate.conjuncts();
    let complete = predicate.is_split();
    let mut steps: Vec<Step<'_>> = Vec::new();
    for conjunct in conjuncts {
        steps.extend(Step::new(conjunct, &view)?);
    }
    // The cheapest and the most telling first.
    steps.sort_by_key(Step::cost);
    let segments: Vec<u32> = (0..table.segments()).collect();
    let residual = (!complete).then_some(predicate);
    let narrow = candidates(&view, &segments, &steps);
    let of = |segment: u32| {
        let few = narrow.get(segment as usize).copied().flatten();
        select_segment(&view, segment, (&near, &steps, few), residual)
    };
    let rows: Option<usize> = narrow.iter().map(|rows| rows.map(<[u16]>::len)).sum();
    let done = match rows {
        Some(rows) if rows < FEW => segments.into_iter().map(of).collect(),
        _ => on_all_cores(segments, of),
    };
    table.all_read()?;
    let mut out = Selection {
        indexes: steps
            .iter()
            .filter(|step| step.sorted)
            .map(|step| step.conjunct.field)
            .collect(),
        ..Selection::default()
    };
    for (mask, examined) in done {
        out.skipped += u64::from(examined == 0);
        out.examined += examined;
        out.masks.push(mask);
    }
    Ok(out)
}

/// By segment the rows that sorted access leaves, where they are few.
fn candidates<'v>(
    view: &'v View<'_>,
    segments: &[u32],
    steps: &[Step<'_>],
) -> Vec<Option<&'v [u16]>> {
    let sorted: Vec<&Step<'_>> = steps.iter().filter(|step| step.sorted).collect();
    if sorted.is_empty() {
        return vec![None; segments.len()];
    }
    let column = |step: &Step<'_>| view.columns.get(step.at).map(|(.., column)| column);
    let of = |number: u32| {
        let ranges = sorted.iter().filter_map(|step| {
            let segment = column(step)?.segment(number);
            // Rows that the segment does not cover have no value.
            (!step.null_passes)
                .then(|| step.sorted_rows(segment))
                .flatten()
        });
        let fewest = ranges.min_by_key(|rows| rows.len())?;
        (fewest.len() < SEGMENT_ROWS as usize / NARROW).then_some(fewest)
    };
    // What is not in order yet is sorted on all cores.
    let cold = sorted.iter().filter_map(|step| column(step));
    let cold = cold.flat_map(|column| column.segments.iter().flatten());
    if cold.filter(|segment| !segment.is_in_order()).count() > 1 {
        return on_all_cores(segments.to_vec(), of);
    }
    segments.iter().map(|number| of(*number)).collect()
}

fn select_segment(
    view: &View<'_>,
    number: u32,
    (near, steps, few): (&Option<Near>, &[Step<'_>], Option<&[u16]>),
    residual: Option<&Predicate>,
) -> (Mask, u64) {
    let live = view.table.live.get(number as usize);
    let Some(live) = live.filter(|live| !live.is_empty()) else {
        return (Mask::none(), 0);
    };
    let columns = || {
        steps.iter().filter_map(|step| {
            let (field, _, column) = view.columns.get(step.at)?;
            Some((step, *field, column.segment(number), &*column.dictionary))
        })
    };
    if columns().any(|(step, _, segment, _)| step.excludes(segment)) {
        return (Mask::none(), 0);
    }
    if let Some(few) = few
        && !columns().any(|(_, _, segment, _)| segment.is_some_and(Segment::is_elsewhere))
    {
        let rows = few.iter().copied();
        let mut rows: Vec<u16> = rows
            .filter(|row| live.contains(usize::from(*row)))
            .collect();
        for (step, _, segment, dictionary) in columns() {
            step.keep_rows(segment, dictionary, &mut rows);
        }
        if let Some(predicate) = residual {
            rows.retain(|row| predicate.matches(&view.row(number, usize::from(*row))));
        }
        let mut mask = Mask::none();
        for row in rows {
            mask.set(usize::from(row), true);
        }
        return (mask, few.len() as u64);
    }
    let mut mask = live.clone();
    let examined = mask.count();
    if let Some(near) = near {
        near.keep(view, number, &mut mask);
    }
    for (step, field, segment, dictionary) in columns() {
        step.keep(segment, dictionary, &mut mask, |row, step| {
            // The records alone have it.
            let slot = view.row(number, row);
            let value = crate::odata::Row::value(&slot, field);
            step.conjunct.accepts(&value.unwrap_or(Value::Null))
        });
        if mask.is_empty() {
            return (mask, examined);
        }
    }
    if let Some(predicate) = residual {
        mask.filter(|row| predicate.matches(&view.row(number, row)));
    }
    (mask, examined)
}

impl<'p> Step<'p> {
    fn new(conjunct: Conjunct<'p>, view: &View<'_>) -> Result<Option<Self>> {
        let columns = &view.columns;
        let at = columns.binary_search_by_key(&conjunct.field, |(id, ..)| *id);
        let Some((at, (_, def, column))) = at.ok().and_then(|at| Some((at, columns.get(at)?)))
        else {
            return Ok(None);
        };
        let ty = def.map_or(FieldType::Json, |f| f.ty.clone());
        let range = Range::of(&conjunct.test, &ty);
        let null_passes = conjunct.accepts(&Value::Null);
        let mut segments = column.segments.iter().flatten();
        let has_codes = segments.any(|s| matches!(s.values, Values::Codes(_)));
        let codes = if has_codes {
            Codes::of(&column.dictionary, &conjunct, &ty)
        } else {
            Codes::None
        };
        let text = match conjunct.test {
            FieldTest::Compare(CompareOp::Eq, Value::String(text)) if ty == FieldType::String => {
                Some(Texts::hash(text))
            }
            _ => None,
        };
        let pointed = match (&codes, &range) {
            (Codes::One(_), _) => true,
            (Codes::None, Some(range)) => range.op != CompareOp::Ne,
            _ => text.is_some(),
        };
        let sorted = pointed && view.table.is_sorted(conjunct.field, column)?;
        let circle = (ty == FieldType::GeoPoint)
            .then(|| conjunct.circle())
            .flatten();
        Ok(Some(Step {
            at,
            ty,
            conjunct,
            range,
            codes,
            circle,
            text,
            null_passes,
            sorted,
        }))
    }

    /// The rows that pass, by sorted access; `None` where the segment has none.
    fn sorted_rows<'s>(&self, segment: Option<&'s Segment>) -> Option<&'s [u16]> {
        let Some(segment) = segment else {
            return Some(&[]);
        };
        match (&segment.values, &self.codes, &self.range) {
            (Values::Absent, ..) => Some(&[]),
            (Values::Codes(codes), Codes::One(code), _) => segment.rows_of_code(codes, *code),
            (Values::Numbers(numbers), _, Some(range)) if range.unit == numbers.unit => {
                segment.rows_within(&numbers.values, range.bounds(numbers.scale))
            }
            (Values::Bytes { .. }, ..) => {
                let hash = |row| match value_of(segment, &Dictionary::default(), row, &self.ty) {
                    Some(Value::String(text)) => Some(Texts::hash(&text)),
                    _ => None,
                };
                Some(segment.texts(hash).rows(self.text?))
            }
            _ => None,
        }
    }

    /// Keeps the rows that pass, of a few.
    fn keep_rows(&self, segment: Option<&Segment>, dictionary: &Dictionary, rows: &mut Vec<u16>) {
        let Some(segment) = segment else {
            return rows.retain(|_| self.null_passes);
        };
        let behind = segment.rows;
        match (&segment.values, &self.codes, &self.range) {
            (Values::Absent, ..) => rows.retain(|_| self.null_passes),
            (Values::Codes(codes), pass, _) => rows.retain(|row| {
                let Some(code) = codes.get(usize::from(*row)) else {
                    return self.null_passes;
                };
                match pass {
                    Codes::One(one) => code == one,
                    Codes::Some(pass) => pass.get(usize::from(*code)) == Some(&true),
                    Codes::Asked(asked) => self.code_passes(asked, dictionary, *code),
                    Codes::None => false,
                }
            }),
            (Values::Numbers(numbers), _, Some(range)) if range.unit == numbers.unit => {
                let (low, high) = range.bounds(numbers.scale);
                let negated = range.op == CompareOp::Ne;
                rows.retain(|row| {
                    let row = usize::from(*row);
                    if !numbers.form(row).has_value() {
                        return self.null_passes;
                    }
                    let value = numbers.values.get(row).copied().unwrap_or(0);
                    (low..=high).contains(&value) != negated
                });
            }
            _ => rows.retain(|row| {
                let row = usize::from(*row);
                if row < behind {
                    self.accepts(segment, dictionary, row)
                } else {
                    self.null_passes
                }
            }),
        }
    }

    /// Whether the cell of a code passes, asked once.
    fn code_passes(&self, asked: &[AtomicU8], dictionary: &Dictionary, code: u16) -> bool {
        let Some(known) = asked.get(usize::from(code)) else {
            return false;
        };
        match known.load(Ordering::Relaxed) {
            0 => {
                let passes = Codes::passes(dictionary, &self.conjunct, &self.ty, code);
                known.store(if passes { PASSES } else { FAILS }, Ordering::Relaxed);
                passes
            }
            known => known == PASSES,
        }
    }

    fn accepts(&self, segment: &Segment, dictionary: &Dictionary, row: usize) -> bool {
        let value = value_of(segment, dictionary, row, &self.ty).unwrap_or(Value::Null);
        self.conjunct.accepts(&value)
    }

    fn cost(&self) -> u8 {
        match (&self.codes, &self.range) {
            (Codes::One(_), _) => 0,
            (Codes::None, Some(range)) if range.op == CompareOp::Eq => 1,
            (Codes::Some(_) | Codes::Asked(_), _) => 2,
            (Codes::None, Some(_)) => 3,
            (Codes::None, None) => 4,
        }
    }

    /// Whether no row of the segment can pass.
    fn excludes(&self, segment: Option<&Segment>) -> bool {
        match segment.map(|segment| &segment.values) {
            None | Some(Values::Absent) => !self.null_passes,
            Some(Values::Numbers(numbers)) if !self.null_passes => {
                match (&self.range, numbers.range) {
                    (_, None) => true,
                    (Some(range), Some((low, high))) if range.unit == numbers.unit => {
                        let (from, to) = range.bounds(numbers.scale);
                        range.op != CompareOp::Ne && (from > high || to < low)
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn keep(
        &self,
        segment: Option<&Segment>,
        dictionary: &Dictionary,
        mask: &mut Mask,
        elsewhere: impl Fn(usize, &Self) -> bool,
    ) {
        let Some(segment) = segment else {
            return mask.filter(|_| self.null_passes);
        };
        // Rows that a segment does not cover yet have no value.
        let behind = (self.null_passes && segment.rows < SEGMENT_ROWS as usize)
            .then(|| mask.behind(segment.rows));
        match &segment.values {
            Values::Absent => mask.filter(|_| self.null_passes),
            Values::Elsewhere => mask.filter(|row| elsewhere(row, self)),
            Values::Codes(_) | Values::Bytes { .. } if self.circle.is_some() => {
                self.keep_each(segment, dictionary, mask);
            }
            Values::Codes(codes) => match &self.codes {
                Codes::One(one) => mask.retain(codes, |code| code == one),
                Codes::Some(pass) => {
                    mask.retain(codes, |code| pass.get(usize::from(*code)) == Some(&true));
                }
                Codes::Asked(asked) => mask.filter(|row| {
                    let code = codes.get(row).copied().unwrap_or(0);
                    self.code_passes(asked, dictionary, code)
                }),
                Codes::None => mask.filter(|_| false),
            },
            Values::Numbers(numbers) => match &self.range {
                Some(range) if range.unit == numbers.unit => self.keep_range(numbers, *range, mask),
                _ => self.keep_each(segment, dictionary, mask),
            },
            Values::Bytes { .. } => self.keep_each(segment, dictionary, mask),
        }
        if let Some(behind) = behind {
            mask.or(&behind);
        }
    }

    fn keep_range(&self, numbers: &Numbers, range: Range, mask: &mut Mask) {
        let (low, high) = range.bounds(numbers.scale);
        let negated = range.op == CompareOp::Ne;
        if numbers.form_of.is_empty() {
            let valued = numbers.form(0).has_value();
            if !valued {
                return mask.filter(|_| self.null_passes);
            }
            return mask.retain(&numbers.values, |v| ((*v >= low) & (*v <= high)) != negated);
        }
        let valued = numbers.valued();
        let mut nulls = mask.clone();
        nulls.retain(&numbers.form_of, |form| {
            valued.get(usize::from(*form)) != Some(&true)
        });
        mask.retain(&numbers.values, |v| ((*v >= low) & (*v <= high)) != negated);
        if self.null_passes {
            mask.or(&nulls);
        } else {
            mask.and_not(&nulls);
        }
    }

    /// Asks of each row.
    fn keep_each(&self, segment: &Segment, dictionary: &Dictionary, mask: &mut Mask) {
        if let Some(circle) = &self.circle {
            let points = points_of(segment, dictionary);
            return mask.filter(|row| {
                let told = points.get(row).and_then(|point| circle.holds(*point));
                told.unwrap_or_else(|| self.accepts(segment, dictionary, row))
            });
        }
        mask.filter(|row| self.accepts(segment, dictionary, row));
    }
}

impl Codes {
    fn passes(dictionary: &Dictionary, conjunct: &Conjunct<'_>, ty: &FieldType, code: u16) -> bool {
        let cell = dictionary.cell(code).unwrap_or_default();
        let cell = Cell::read(&mut Reader::new(cell));
        let value = cell.map_or(Value::Null, |cell| cell.value_as(ty));
        conjunct.accepts(&value)
    }

    fn of(dictionary: &Dictionary, conjunct: &Conjunct<'_>, ty: &FieldType) -> Self {
        // Of an equality the one code is worth knowing: an index finds its rows.
        let equality = matches!(conjunct.test, FieldTest::Compare(CompareOp::Eq, _));
        if dictionary.codes() > ASKED_AT_ONCE && !equality {
            let asked = std::iter::repeat_with(AtomicU8::default);
            return Codes::Asked(asked.take(dictionary.codes()).collect());
        }
        let codes = (0..dictionary.codes()).map(|code| u16::try_from(code).unwrap_or(u16::MAX));
        let pass: Vec<bool> = codes
            .map(|code| Codes::passes(dictionary, conjunct, ty, code))
            .collect();
        let mut passing = pass.iter().enumerate().filter(|(_, pass)| **pass);
        match (passing.next(), passing.next()) {
            (None, _) => Codes::Some(Vec::new()),
            (Some((one, _)), None) => Codes::One(u16::try_from(one).unwrap_or(u16::MAX)),
            _ => Codes::Some(pass),
        }
    }
}

impl Range {
    /// The range a comparison means for columns of the field's own kind.
    fn of(test: &FieldTest<'_>, ty: &FieldType) -> Option<Self> {
        let FieldTest::Compare(op, constant) = test else {
            return None;
        };
        let (unit, constant) = match (ty, constant) {
            (FieldType::Int | FieldType::Decimal, Value::Int(v)) => {
                (Unit::Number, Decimal::from(*v))
            }
            (FieldType::Int | FieldType::Decimal, Value::Decimal(v)) => (Unit::Number, *v),
            (FieldType::Date, Value::Date(day)) => (Unit::Day, Decimal::from(i64::from(day.0))),
            (FieldType::DateTime, Value::DateTime(at)) => {
                let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
                (Unit::Instant, Decimal::new(nanos, 9)?)
            }
            (FieldType::DateTime, Value::Date(day)) => {
                (Unit::Instant, Decimal::from(day.midnight().seconds))
            }
            _ => return None,
        };
        Some(Range {
            op: *op,
            unit,
            constant,
        })
    }

    /// The first and the last integer, in units of `10^-scale`, that the comparison takes in (`ne`
    /// leaves out). First past last where there is none.
    fn bounds(&self, scale: u8) -> (i64, i64) {
        let (below, exact) = scaled(self.constant, scale);
        let clamp = |v: i128| i64::try_from(v).unwrap_or(if v < 0 { i64::MIN } else { i64::MAX });
        let none = (1, 0);
        match self.op {
            CompareOp::Eq | CompareOp::Ne if !exact || i64::try_from(below).is_err() => none,
            CompareOp::Eq | CompareOp::Ne => (clamp(below), clamp(below)),
            CompareOp::Lt => {
                let last = if exact { below - 1 } else { below };
                if last < i128::from(i64::MIN) {
                    none
                } else {
                    (i64::MIN, clamp(last))
                }
            }
            CompareOp::Le if below < i128::from(i64::MIN) => none,
            CompareOp::Le => (i64::MIN, clamp(below)),
            CompareOp::Gt if below + 1 > i128::from(i64::MAX) => none,
            CompareOp::Gt => (clamp(below + 1), i64::MAX),
            CompareOp::Ge => {
                let first = if exact { below } else { below + 1 };
                if first > i128::from(i64::MAX) {
                    none
                } else {
                    (clamp(first), i64::MAX)
                }
            }
        }
    }
}

/// A number in units of `10^-scale`: the integer at or below it, and whether that is it. What is
/// far beyond an `i64` stays so.
fn scaled(number: Decimal, scale: u8) -> (i128, bool) {
    let far = if number.mantissa() < 0 {
        i128::MIN / 4
    } else {
        i128::MAX / 4
    };
    if let Some(more) = number.scale().checked_sub(scale).filter(|more| *more > 0) {
        let by = 10_i128.checked_pow(u32::from(more)).unwrap_or(i128::MAX);
        let below = number.mantissa().div_euclid(by);
        return (below, number.mantissa().rem_euclid(by) == 0);
    }
    let by = 10_i128.checked_pow(u32::from(scale - number.scale()));
    let value = by.and_then(|by| number.mantissa().checked_mul(by));
    let value = value.map_or(far, |v| v.clamp(i128::MIN / 4, i128::MAX / 4));
    (value, true)
}
