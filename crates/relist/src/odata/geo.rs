//! Geography: literals, great-circle distance and containment.

use std::fmt;

use crate::value::GeoPoint;

/// A geography literal: a shape and its reference system.
#[derive(Debug, Clone, PartialEq)]
pub struct Geography {
    /// The spatial reference system as written; `None` is OData's default, 4326.
    pub srid: Option<u32>,
    /// The shape.
    pub shape: Shape,
}

/// The shape of a geography literal, longitudes first.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// `POINT(lon lat)`.
    Point(GeoPoint),
    /// `LINESTRING(lon lat,..)`, two points or more.
    Line(Vec<GeoPoint>),
    /// `POLYGON((lon lat,..),(..))`: the outer ring, then its holes.
    Polygon(Vec<Vec<GeoPoint>>),
}

/// What a distance is measured in.
///
/// UtahRealEstate.com documents `SRID=3956` for miles (3,956 is the earth's radius in miles);
/// everything else is metres, as OData says of SRID 4326.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Metres,
    Miles,
}

/// The reference system that stands for miles.
const SRID_MILES: u32 = 3956;

impl Unit {
    pub(super) fn of(srid: Option<u32>) -> Unit {
        if srid == Some(SRID_MILES) {
            Unit::Miles
        } else {
            Unit::Metres
        }
    }

    /// The earth's mean radius.
    pub(super) fn radius(self) -> f64 {
        match self {
            Unit::Metres => 6_371_008.8,
            Unit::Miles => 3_956.0,
        }
    }
}

/// Whether a longitude and a latitude are within their ranges: no other point is anywhere.
pub(super) fn on_globe(point: GeoPoint) -> bool {
    (-180.0..=180.0).contains(&point.longitude) && (-90.0..=90.0).contains(&point.latitude)
}

/// Great-circle distance by the haversine formula.
pub(super) fn distance(a: GeoPoint, b: GeoPoint, unit: Unit) -> f64 {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = (lat_b - lat_a) / 2.0;
    let half_lon = (b.longitude - a.longitude).to_radians() / 2.0;
    let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    2.0 * unit.radius() * h.clamp(0.0, 1.0).sqrt().asin()
}

/// The length of a line, segment by segment.
pub(super) fn length(line: &[GeoPoint], unit: Unit) -> f64 {
    let segments = line.iter().zip(line.iter().skip(1));
    segments.map(|(a, b)| distance(*a, *b, unit)).sum()
}

/// Whether a point lies in a polygon or on its border, by ray casting over all rings (so a hole
/// is outside, its border is not).
pub(super) fn inside(point: GeoPoint, rings: &[Vec<GeoPoint>]) -> bool {
    let mut odd = false;
    for ring in rings {
        let ends = ring.iter().skip(1).chain(ring.first());
        for (a, b) in ring.iter().zip(ends) {
            if on_segment(point, *a, *b) {
                return true;
            }
            let crosses = (a.latitude > point.latitude) != (b.latitude > point.latitude);
            if crosses {
                let share = (point.latitude - a.latitude) / (b.latitude - a.latitude);
                let at = a.longitude + share * (b.longitude - a.longitude);
                odd ^= point.longitude < at;
            }
        }
    }
    odd
}

fn on_segment(p: GeoPoint, a: GeoPoint, b: GeoPoint) -> bool {
    let cross = (b.longitude - a.longitude) * (p.latitude - a.latitude)
        - (b.latitude - a.latitude) * (p.longitude - a.longitude);
    let between = |v: f64, x: f64, y: f64| v >= x.min(y) && v <= x.max(y);
    cross == 0.0
        && between(p.longitude, a.longitude, b.longitude)
        && between(p.latitude, a.latitude, b.latitude)
}

impl Geography {
    /// Reads `SRID=n;POINT(lon lat)`, `LINESTRING(..)` or `POLYGON((..))`; the error is the byte
    /// at fault and what was expected there.
    pub(super) fn parse(text: &str) -> Result<Geography, (usize, String)> {
        let mut reader = Reader { text, at: 0 };
        let mut srid = None;
        if reader.word("SRID") {
            reader.expect('=')?;
            srid = Some(reader.integer()?);
            reader.expect(';')?;
        }
        let shape = if reader.word("POINT") {
            reader.expect('(')?;
            let point = reader.point()?;
            reader.expect(')')?;
            Shape::Point(point)
        } else if reader.word("LINESTRING") {
            Shape::Line(reader.points(2)?)
        } else if reader.word("POLYGON") {
            reader.expect('(')?;
            let mut rings = vec![reader.points(3)?];
            while reader.eat(',') {
                rings.push(reader.points(3)?);
            }
            reader.expect(')')?;
            Shape::Polygon(rings)
        } else {
            return Err(reader.fail("POINT, LINESTRING or POLYGON"));
        };
        reader.space();
        if reader.at < text.len() {
            return Err(reader.fail("the end of the literal"));
        }
        Ok(Geography { srid, shape })
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fail(&self, expected: &str) -> (usize, String) {
        (self.at, format!("expected {expected} in the geography"))
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, what: char) -> bool {
        self.space();
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len_utf8();
        }
        found
    }

    fn expect(&mut self, what: char) -> Result<(), (usize, String)> {
        if self.eat(what) {
            return Ok(());
        }
        Err(self.fail(&format!("'{what}'")))
    }

    fn word(&mut self, word: &str) -> bool {
        self.space();
        let head = self.rest().get(..word.len());
        let found = head.is_some_and(|h| h.eq_ignore_ascii_case(word));
        if found {
            self.at += word.len();
        }
        found
    }

    fn integer(&mut self) -> Result<u32, (usize, String)> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let digits = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let value = digits.parse().map_err(|_| self.fail("a number"))?;
        self.at += digits.len();
        Ok(value)
    }

    fn coordinate(&mut self, limit: f64, name: &str) -> Result<f64, (usize, String)> {
        self.space();
        let rest = self.rest();
        let ends = |c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
        let number = rest
            .get(..rest.find(ends).unwrap_or(rest.len()))
            .unwrap_or_default();
        let value: f64 = number.parse().map_err(|_| self.fail(name))?;
        if !(-limit..=limit).contains(&value) {
            let wanted = format!("{name} between -{limit} and {limit} (longitude comes first)");
            return Err(self.fail(&wanted));
        }
        self.at += number.len();
        Ok(value)
    }

    fn point(&mut self) -> Result<GeoPoint, (usize, String)> {
        let longitude = self.coordinate(180.0, "a longitude")?;
        let latitude = self.coordinate(90.0, "a latitude")?;
        Ok(GeoPoint {
            longitude,
            latitude,
        })
    }

    fn points(&mut self, least: usize) -> Result<Vec<GeoPoint>, (usize, String)> {
        self.expect('(')?;
        let mut points = vec![self.point()?];
        while self.eat(',') {
            points.push(self.point()?);
        }
        if points.len() < least {
            return Err(self.fail(&format!("at least {least} points")));
        }
        self.expect(')')?;
        Ok(points)
    }
}

impl fmt::Display for Geography {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(srid) = self.srid {
            write!(f, "SRID={srid};")?;
        }
        match &self.shape {
            Shape::Point(p) => write!(f, "POINT({} {})", p.longitude, p.latitude),
            Shape::Line(points) => {
                f.write_str("LINESTRING")?;
                write_points(f, points)
            }
            Shape::Polygon(rings) => {
                f.write_str("POLYGON(")?;
                for (i, ring) in rings.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    write_points(f, ring)?;
                }
                f.write_str(")")
            }
        }
    }
}

fn write_points(f: &mut fmt::Formatter<'_>, points: &[GeoPoint]) -> fmt::Result {
    for (i, p) in points.iter().enumerate() {
        let before = if i == 0 { "(" } else { "," };
        write!(f, "{before}{} {}", p.longitude, p.latitude)?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(longitude: f64, latitude: f64) -> GeoPoint {
        GeoPoint {
            longitude,
            latitude,
        }
    }

    #[test]
    fn literals_round_trip() {
        for text in [
            "SRID=3956;POINT(-111.898 40.576)",
            "POINT(0 -90)",
            "SRID=4326;LINESTRING(1 2,3.5 4)",
            "POLYGON((0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4))",
        ] {
            assert_eq!(Geography::parse(text).unwrap().to_string(), text);
        }
        let spaced = Geography::parse("srid=3956; Point ( -111.898   40.576 )").unwrap();
        assert_eq!(spaced.to_string(), "SRID=3956;POINT(-111.898 40.576)");
    }

    #[test]
    fn faults_name_the_place() {
        let fault = |text: &str| Geography::parse(text).unwrap_err();
        assert_eq!(fault("CIRCLE(1 2)").0, 0);
        assert_eq!(fault("POINT(1)").0, 7);
        assert_eq!(fault("POINT(40.5 -111.9)").0, 11);
        assert_eq!(fault("POINT(1 2) x").0, 11);
        assert_eq!(fault("LINESTRING(1 2)").0, 14);
    }

    #[test]
    fn distances_are_known_ones() {
        // Salt Lake City to Provo: 61.7 km, 38.3 miles.
        let (slc, provo) = (point(-111.891, 40.7608), point(-111.6585, 40.2338));
        let metres = distance(slc, provo, Unit::Metres);
        assert!((metres - 61_800.0).abs() < 400.0, "{metres}");
        let miles = distance(slc, provo, Unit::Miles);
        assert!((metres / miles - 1_610.5).abs() < 1.0, "{miles}");
        let quarter = distance(point(0.0, 0.0), point(90.0, 0.0), Unit::Metres);
        let line = [point(0.0, 0.0), point(45.0, 0.0), point(90.0, 0.0)];
        assert!((length(&line, Unit::Metres) - quarter).abs() < 1e-3);
    }

    #[test]
    fn containment_knows_holes_and_borders() {
        let ring = |low: f64, high: f64| {
            vec![
                point(low, low),
                point(high, low),
                point(high, high),
                point(low, high),
            ]
        };
        let rings = [ring(0.0, 10.0), ring(4.0, 6.0)];
        assert!(inside(point(1.0, 1.0), &rings));
        assert!(!inside(point(5.0, 5.0), &rings));
        assert!(inside(point(10.0, 5.0), &rings));
        assert!(inside(point(4.0, 5.0), &rings));
        assert!(!inside(point(11.0, 5.0), &rings));
    }
}
