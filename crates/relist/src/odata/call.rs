//! Binding calls of functions.

use memchr::memmem::Finder;

use super::ast::{Expr, ExprKind, Literal, Name, Span};
use super::bind::{Binder, Bound, folded};
use super::function::{Function, GEO_FUNCTIONS, Gives, Param, Signature, hint_for};
use super::geo::Unit;
use super::node::{Kind, Measure, Node};
use super::types::{Class, Ty};
use crate::error::QueryError;
use crate::value::Value;

impl<'a> Binder<'a> {
    pub(super) fn call(
        &mut self,
        name: &'a Name,
        args: &'a [Expr],
        span: Span,
    ) -> Result<Bound<'a>, QueryError> {
        let lower = name.text.to_ascii_lowercase();
        if GEO_FUNCTIONS.contains(&lower.as_str()) {
            return self.geo(&lower, args, span);
        }
        let Some(signature) = Signature::named(&lower) else {
            let message = format!("there is no function {}", name.text);
            return Err(self.option.hinted(name.span, message, hint_for(&name.text)));
        };
        self.count_arguments(
            &lower,
            args,
            (signature.least(), signature.params.len()),
            span,
        )?;
        let mut nodes = Vec::with_capacity(args.len());
        let mut whole = true;
        for (arg, param) in args.iter().zip(signature.params) {
            let bound = self.expr(arg)?;
            whole &= matches!(bound.ty, Ty::Int);
            nodes.push(self.argument(&signature, *param, arg, bound)?);
        }
        let ty = match signature.gives {
            Gives::Bool => Ty::Bool,
            Gives::Int => Ty::Int,
            Gives::Number if whole => Ty::Int,
            Gives::Number => Ty::Decimal,
            Gives::String => Ty::String,
            Gives::Date => Ty::Date,
            Gives::Time => Ty::TimeOfDay,
            Gives::Instant => Ty::DateTime,
        };
        let node = match signature.function {
            Function::Now => Node::Const(Value::DateTime(self.now.to_datetime())),
            Function::Contains => contains(nodes),
            function => folded(Node::Call {
                function,
                args: nodes,
            }),
        };
        Ok(Bound { node, ty })
    }

    fn count_arguments(
        &self,
        name: &str,
        args: &[Expr],
        (least, most): (usize, usize),
        span: Span,
    ) -> Result<(), QueryError> {
        if (least..=most).contains(&args.len()) {
            return Ok(());
        }
        let expected = match (least, most) {
            (0, 0) => "no argument".to_owned(),
            (1, 1) => "one argument".to_owned(),
            (a, b) if a == b => format!("{a} arguments"),
            (a, b) => format!("{a} or {b} arguments"),
        };
        let message = format!("{name}() takes {expected}, not {}", args.len());
        Err(self.option.error(span, message))
    }

    fn argument(
        &self,
        signature: &Signature,
        param: Param,
        arg: &Expr,
        bound: Bound<'a>,
    ) -> Result<Node, QueryError> {
        let fits = match param {
            Param::String => bound.ty.class() == Class::Text,
            Param::Int => matches!(bound.ty, Ty::Int),
            Param::Number => bound.ty.class() == Class::Number,
            Param::Day => bound.ty.class() == Class::Instant,
            Param::Clock => matches!(bound.ty, Ty::DateTime | Ty::TimeOfDay),
            Param::Instant => matches!(bound.ty, Ty::DateTime),
        };
        if fits || matches!(bound.ty, Ty::Null) {
            return Ok(bound.node);
        }
        if matches!(bound.ty, Ty::Json) {
            let timed = matches!(param, Param::Day | Param::Clock | Param::Instant);
            return Ok(if timed {
                folded(Node::Coerce {
                    value: Box::new(bound.node),
                    kind: Kind::DateTime,
                })
            } else {
                bound.node
            });
        }
        let (name, kind) = (signature.name, bound.ty.name());
        let message = format!("{name}() takes {}, and {arg} is {kind}", param.name());
        let hint = (bound.ty.class() == Class::List)
            .then(|| format!("ask of one element: {arg}/any(x:{name}(x,..))"));
        Err(self.option.hinted(arg.span, message, hint))
    }

    fn geo(&mut self, name: &str, args: &'a [Expr], span: Span) -> Result<Bound<'a>, QueryError> {
        let count = if name == "geo.length" { 1 } else { 2 };
        self.count_arguments(name, args, (count, count), span)?;
        let srid = args.iter().find_map(|arg| match &arg.kind {
            ExprKind::Literal(Literal::Geography(geography)) => geography.srid,
            _ => None,
        });
        let mut nodes = Vec::with_capacity(count);
        let mut types = Vec::with_capacity(count);
        for arg in args {
            let bound = self.expr(arg)?;
            let ty = match bound.ty {
                Ty::Json | Ty::Null => Ty::Point,
                other => other,
            };
            types.push(ty);
            nodes.push(bound.node);
        }
        let unit = Unit::of(srid);
        let (measure, wanted, ty) = match name {
            "geo.distance" => (Measure::Distance(unit), "two points", Ty::Decimal),
            "geo.length" => (Measure::Length(unit), "a line", Ty::Decimal),
            _ => (Measure::Intersects, "a point and a polygon", Ty::Bool),
        };
        let fits = match (measure, types.as_slice()) {
            (Measure::Distance(_), [Ty::Point, Ty::Point]) | (Measure::Length(_), [Ty::Line]) => {
                true
            }
            (Measure::Intersects, [a, b]) => {
                matches!((a, b), (Ty::Point, Ty::Polygon) | (Ty::Polygon, Ty::Point))
            }
            _ => false,
        };
        if !fits {
            let given: Vec<_> = types.iter().map(|t| t.name()).collect();
            let message = format!("{name}() takes {wanted}, not {}", given.join(" and "));
            let hint = "a point is written geography'SRID=4326;POINT(longitude latitude)'";
            return Err(self.option.hinted(span, message, Some(hint.to_owned())));
        }
        Ok(Bound {
            node: folded(Node::Geo {
                measure,
                args: nodes,
            }),
            ty,
        })
    }
}

/// `contains`, with the search prepared when what is looked for is constant.
fn contains(args: Vec<Node>) -> Node {
    match args.as_slice() {
        [text, Node::Const(Value::String(part))] => folded(Node::Contains {
            text: Box::new(text.clone()),
            finder: Box::new(Finder::new(part.as_bytes()).into_owned()),
        }),
        _ => folded(Node::Call {
            function: Function::Contains,
            args,
        }),
    }
}
