//! The part of the globe that a filter looks at, for planners: never too small.

use super::ast::CompareOp;
use super::geo::{self, Shape, Unit};
use super::node::{Measure, Node};
use super::predicate::{Conjunct, Predicate};
use crate::schema::FieldId;
use crate::value::{GeoPoint, Value};

/// The fields that hold a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeoField {
    /// A field that is a point.
    Point(FieldId),
    /// A latitude and a longitude.
    Pair {
        /// The field with degrees north.
        latitude: FieldId,
        /// The field with degrees east.
        longitude: FieldId,
    },
}

/// Latitudes and longitudes outside of which a filter lets nothing through. A record without a
/// point, or with one that is not on the globe, is not let through either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeoBox {
    /// Where points come from.
    pub field: GeoField,
    /// The least latitude and longitude.
    pub least: GeoPoint,
    /// The greatest latitude and longitude.
    pub greatest: GeoPoint,
}

impl GeoBox {
    /// Whether the point is within the box, borders included.
    pub fn contains(&self, point: GeoPoint) -> bool {
        (self.least.latitude..=self.greatest.latitude).contains(&point.latitude)
            && (self.least.longitude..=self.greatest.longitude).contains(&point.longitude)
    }

    fn whole_globe(field: GeoField) -> GeoBox {
        let corner = |sign: f64| GeoPoint {
            longitude: sign * 180.0,
            latitude: sign * 90.0,
        };
        GeoBox {
            field,
            least: corner(-1.0),
            greatest: corner(1.0),
        }
    }

    /// The box of all within a distance. What the formula of the distance rounds is far below the
    /// margin of a ten-millionth of a degree, about a centimetre.
    fn around(field: GeoField, centre: GeoPoint, distance: f64, unit: Unit) -> GeoBox {
        const MARGIN: f64 = 1e-7;
        let whole = GeoBox::whole_globe(field);
        // A distance is compared after it was rounded to a millionth of its unit.
        let angle = (distance.max(0.0) + 1e-6) / unit.radius();
        if !angle.is_finite() || angle >= std::f64::consts::FRAC_PI_2 {
            return whole;
        }
        let margin = MARGIN + angle.to_degrees() * 1e-9;
        let reach = angle.to_degrees() + margin;
        let (south, north) = (centre.latitude - reach, centre.latitude + reach);
        let mut around = whole;
        around.least.latitude = south.max(-90.0);
        around.greatest.latitude = north.min(90.0);
        if south <= -90.0 || north >= 90.0 {
            return around;
        }
        let ratio = angle.sin() / centre.latitude.to_radians().cos();
        if ratio >= 1.0 {
            return around;
        }
        // Near a pole the arc sine is steep, and so is what its rounding costs.
        let steep = 1.0 / (1.0 - ratio * ratio).sqrt();
        let width = ratio.asin().to_degrees() + margin * steep.max(1.0) * 2.0;
        let (west, east) = (centre.longitude - width, centre.longitude + width);
        if west > -180.0 && east < 180.0 {
            around.least.longitude = west;
            around.greatest.longitude = east;
        }
        around
    }

    fn of_rings(field: GeoField, rings: &[Vec<GeoPoint>]) -> GeoBox {
        const MARGIN: f64 = 1e-9;
        let mut least = GeoPoint {
            longitude: f64::INFINITY,
            latitude: f64::INFINITY,
        };
        let mut greatest = GeoPoint {
            longitude: f64::NEG_INFINITY,
            latitude: f64::NEG_INFINITY,
        };
        for point in rings.iter().flatten() {
            least.longitude = least.longitude.min(point.longitude - MARGIN);
            least.latitude = least.latitude.min(point.latitude - MARGIN);
            greatest.longitude = greatest.longitude.max(point.longitude + MARGIN);
            greatest.latitude = greatest.latitude.max(point.latitude + MARGIN);
        }
        GeoBox {
            field,
            least,
            greatest,
        }
    }

    /// What lies in both boxes, when they are of the same fields.
    fn and(self, other: GeoBox) -> GeoBox {
        if self.field != other.field {
            return self;
        }
        GeoBox {
            field: self.field,
            least: GeoPoint {
                longitude: self.least.longitude.max(other.least.longitude),
                latitude: self.least.latitude.max(other.least.latitude),
            },
            greatest: GeoPoint {
                longitude: self.greatest.longitude.min(other.greatest.longitude),
                latitude: self.greatest.latitude.min(other.greatest.latitude),
            },
        }
    }
}

/// All within a distance of a point, told without trigonometry but for a narrow ring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Circle {
    centre: GeoPoint,
    /// Cosine and sine of the centre's latitude.
    cos: f64,
    sin: f64,
    /// Squared radii, in radians: within the first all are inside, beyond the second none.
    within: f64,
    beyond: f64,
}

impl Circle {
    /// `None` where the plane is too bad a picture of the globe: for far away, and near the poles.
    fn new(centre: GeoPoint, distance: f64, unit: Unit) -> Option<Circle> {
        /// What is left to the formula. The plane's own error is below a ten-thousandth here.
        const MARGIN: f64 = 1e-3;
        // Distances are compared after they were rounded to a millionth of the unit.
        let slack = 1e-6 / unit.radius();
        let angle = distance / unit.radius();
        let far = !(angle > 0.0 && angle < 0.02) || centre.latitude.abs() > 70.0;
        let inner = (angle * (1.0 - MARGIN) - slack).max(0.0);
        let outer = angle * (1.0 + MARGIN) + slack;
        let latitude = centre.latitude.to_radians();
        (!far).then_some(Circle {
            centre,
            cos: latitude.cos(),
            sin: latitude.sin(),
            within: inner * inner,
            beyond: outer * outer,
        })
    }

    /// Whether a point is inside; `None` where only the formula can tell, and for no point at all.
    pub(crate) fn holds(&self, point: GeoPoint) -> Option<bool> {
        let north = (point.latitude - self.centre.latitude).to_radians();
        let east = (point.longitude - self.centre.longitude).to_radians();
        if !geo::on_globe(point) || east.abs() > 1.0 {
            return None;
        }
        // The cosine half way to the point.
        let cos = self.cos - self.sin * north / 2.0;
        let (x, y) = (east * cos, north);
        let square = x * x + y * y;
        if square < self.within {
            Some(true)
        } else if square > self.beyond && north.abs() < 0.05 {
            Some(false)
        } else {
            None
        }
    }
}

impl Conjunct<'_> {
    /// The circle around a point that the condition is, when it is `geo.distance` that is less than
    /// (or equal to) something.
    pub(crate) fn circle(&self) -> Option<Circle> {
        match self.node() {
            Node::Compare {
                op: CompareOp::Lt | CompareOp::Le,
                left,
                right,
            } => {
                let (_, centre, unit) = distance_of(left)?;
                let distance = right.constant()?.as_decimal()?.to_f64();
                Circle::new(centre, distance, unit)
            }
            _ => None,
        }
    }
}

/// The field and the point between which a distance is measured.
fn distance_of(node: &Node) -> Option<(GeoField, GeoPoint, Unit)> {
    let Node::Geo {
        measure: Measure::Distance(unit),
        args,
    } = node
    else {
        return None;
    };
    let (field, centre) = match args.as_slice() {
        [a, b] => field_of(a)
            .zip(point_of(b))
            .or_else(|| field_of(b).zip(point_of(a)))?,
        _ => return None,
    };
    Some((field, centre, *unit))
}

impl Predicate {
    /// The box that the conditions joined by `and` at the top keep records to: `geo.distance(..)`
    /// that is less than or equal to something, and `geo.intersects` with a polygon. `None` when
    /// there is no such condition. Where conditions are of different fields, the box is of the
    /// first.
    pub fn geo_box(&self) -> Option<GeoBox> {
        boxed(self.node())
    }
}

fn boxed(node: &Node) -> Option<GeoBox> {
    match node {
        Node::And(nodes) => nodes.iter().filter_map(boxed).reduce(GeoBox::and),
        Node::Compare {
            op: CompareOp::Lt | CompareOp::Le | CompareOp::Eq,
            left,
            right,
        } => {
            let (field, centre, unit) = distance_of(left)?;
            let distance = right.constant()?.as_decimal()?.to_f64();
            Some(GeoBox::around(field, centre, distance, unit))
        }
        Node::Geo {
            measure: Measure::Intersects,
            args,
        } => match args.as_slice() {
            [a, Node::Shape(Shape::Polygon(rings))] | [Node::Shape(Shape::Polygon(rings)), a] => {
                Some(GeoBox::of_rings(field_of(a)?, rings))
            }
            _ => None,
        },
        _ => None,
    }
}

fn field_of(node: &Node) -> Option<GeoField> {
    match node {
        Node::Field(id) => Some(GeoField::Point(*id)),
        Node::Pair {
            latitude,
            longitude,
        } => Some(GeoField::Pair {
            latitude: *latitude,
            longitude: *longitude,
        }),
        _ => None,
    }
}

fn point_of(node: &Node) -> Option<GeoPoint> {
    match node {
        Node::Const(Value::GeoPoint(point)) | Node::Shape(Shape::Point(point)) => Some(*point),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_circle_says_what_the_formula_says(
            latitude in -72.0..72.0_f64, longitude in -180.0..180.0_f64,
            miles in 0.0..70.0_f64, bearing in 0.0..std::f64::consts::TAU, near in 0.0..3.0_f64,
            edge in 0.99..1.01_f64, on_edge: bool,
        ) {
            let centre = GeoPoint { longitude, latitude };
            let share = if on_edge { edge } else { near };
            let angle = (miles * share / Unit::Miles.radius()).to_degrees();
            let point = GeoPoint {
                longitude: longitude + angle * bearing.sin() / latitude.to_radians().cos(),
                latitude: latitude + angle * bearing.cos(),
            };
            let distance = geo::distance(centre, point, Unit::Miles);
            let inside = (distance * 1e6).round() <= (miles * 1e6).round();
            if let Some(circle) = Circle::new(centre, miles, Unit::Miles)
                && let Some(told) = circle.holds(point)
            {
                prop_assert_eq!(told, inside, "{} of {}", distance, miles);
            }
        }
    }

    #[test]
    fn a_circle_leaves_little_to_the_formula() {
        let centre = GeoPoint {
            longitude: -111.9,
            latitude: 40.7,
        };
        let circle = Circle::new(centre, 1.0, Unit::Miles).unwrap();
        let points = (0..10_000).map(|n| GeoPoint {
            longitude: centre.longitude + f64::from(n % 100 - 50) * 0.0008,
            latitude: centre.latitude + f64::from(n / 100 - 50) * 0.0006,
        });
        let told = points.map(|point| circle.holds(point));
        let told: Vec<Option<bool>> = told.collect();
        assert!(told.iter().filter(|t| t.is_none()).count() < 50);
        assert!(told.iter().filter(|t| **t == Some(true)).count() > 1_000);
        let nowhere = GeoPoint {
            longitude: f64::NAN,
            latitude: f64::NAN,
        };
        assert_eq!(circle.holds(nowhere), None);
        assert_eq!(
            circle.holds(GeoPoint {
                longitude: -111.9,
                latitude: 400.7
            }),
            None
        );
    }
}
