//! Functions of the reference evaluator.

use relist::odata::{Geography, Shape};
use relist::schema::FieldType;
use relist::value::{Decimal, GeoPoint};

use super::values::{
    Fraction, NANOS_A_DAY, T, Typed, V, calendar, declared, instant, parts_of_day,
};

/// A function of strings; `None` for other functions.
pub(super) fn text_call(name: &str, args: &[Typed]) -> Option<Typed> {
    let ty = match name {
        "contains" | "startswith" | "endswith" => FieldType::Bool,
        "indexof" | "length" => FieldType::Int,
        "tolower" | "toupper" | "trim" | "concat" | "substring" => FieldType::String,
        _ => return None,
    };
    let texts: Vec<Option<Vec<char>>> = args
        .iter()
        .map(|a| match &a.value {
            V::Text(text) => Some(text.chars().collect()),
            _ => None,
        })
        .collect();
    let value = match (name, texts.as_slice()) {
        ("substring", [Some(text), ..]) => substring(text, &args[1..]),
        (_, [Some(text)]) => Some(of_one_text(name, text)),
        (_, [Some(a), Some(b)]) => Some(of_two_texts(name, a, b)),
        _ => None,
    };
    Some(Typed::of(value.unwrap_or(V::Null), ty))
}

fn of_one_text(name: &str, text: &[char]) -> V {
    let whole: String = text.iter().collect();
    match name {
        "length" => int(text.len()),
        "tolower" => V::Text(whole.to_lowercase()),
        "toupper" => V::Text(whole.to_uppercase()),
        _ => {
            let mut text = text.to_vec();
            while text.last().is_some_and(|c| c.is_whitespace()) {
                text.pop();
            }
            while text.first().is_some_and(|c| c.is_whitespace()) {
                text.remove(0);
            }
            V::Text(text.into_iter().collect())
        }
    }
}

fn of_two_texts(name: &str, text: &[char], part: &[char]) -> V {
    let found = (0..=text.len()).find(|at| text[*at..].starts_with(part));
    match name {
        "contains" => V::Bool(found.is_some()),
        "startswith" => V::Bool(text.starts_with(part)),
        "endswith" => V::Bool(text.ends_with(part)),
        "indexof" => found.map_or(V::Number(Fraction::whole(-1)), int),
        _ => V::Text(text.iter().chain(part).collect()),
    }
}

/// The characters from a start (negative: from the end), at most so many.
fn substring(text: &[char], bounds: &[Typed]) -> Option<V> {
    let whole = |typed: &Typed| match typed.value {
        V::Number(n) if n.under == 1 => Some(n.over),
        _ => None,
    };
    let start = whole(&bounds[0])?;
    let length = match bounds.get(1) {
        Some(length) if length.value != V::Null => whole(length)?,
        _ => i128::from(i32::MAX),
    };
    let from = if start < 0 {
        (text.len() as i128 + start).max(0)
    } else {
        start
    };
    let inside = |i: i128| i >= from && i < from + length.max(0);
    let kept = (0_i128..).zip(text).filter(|(i, _)| inside(*i));
    Some(V::Text(kept.map(|(_, c)| *c).collect()))
}

fn int(n: usize) -> V {
    V::Number(Fraction::whole(n as i128))
}

pub(super) fn time_call(name: &str, arg: &Typed) -> Typed {
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
pub(super) fn geo(name: &str, args: &[Typed]) -> Option<Typed> {
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
            let at = |i: usize, w: &[GeoPoint]| (w[i].longitude, w[i].latitude);
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
                let around = |ring: &Vec<GeoPoint>| winding(p, ring);
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
pub(super) fn angle(a: (f64, f64), b: (f64, f64)) -> f64 {
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
pub(super) fn winding(p: (f64, f64), ring: &[GeoPoint]) -> Option<bool> {
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
