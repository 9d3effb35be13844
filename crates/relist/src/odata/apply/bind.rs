//! Resolving `$apply` against a schema.

use super::after::Table;
use super::ast::{AggregateItem, Apply, Named, Transformation, TransformationKind as Kind};
use super::bound::{Aggregate, BoundApply, Column, Expression, GroupKey, Grouping};
use super::method::Method;
use crate::error::QueryError;
use crate::odata::ast::{Expr, Span};
use crate::odata::bind::{Binder, Bound, Computed};
use crate::odata::predicate::Predicate;
use crate::odata::text::OptionText;
use crate::odata::types::{Class, Ty};
use crate::schema::{Field, FieldId, FieldType, Resource, Schema};
use crate::value::Timestamp;

/// Resolves `$apply` against a resource. `text` is what `apply` was parsed from, for errors; `now`
/// is what `now()` means.
pub fn bind_apply(
    apply: &Apply,
    text: &str,
    schema: &Schema,
    resource: &Resource,
    now: Timestamp,
) -> Result<BoundApply, QueryError> {
    rebind(apply, text, &Binder::new(empty(), schema, resource, now))
}

fn empty() -> OptionText<'static> {
    OptionText {
        name: "$apply",
        text: "",
    }
}

/// [`bind_apply`], with what a binder knows beside the schema.
pub(in crate::odata) fn rebind<'a>(
    apply: &'a Apply,
    text: &'a str,
    binder: &Binder<'a>,
) -> Result<BoundApply, QueryError> {
    let option = OptionText {
        name: "$apply",
        text,
    };
    let mut records = Scope {
        option,
        schema: binder.schema,
        resource: binder.resource,
        now: binder.now,
        pair: binder.pair,
        computed: Computed::default(),
    };
    let mut predicate = None;
    let mut steps = apply.steps.iter();
    let (grouping, within) = loop {
        let Some(step) = steps.next() else {
            return Err(nothing_grouped(option, apply));
        };
        match &step.kind {
            Kind::Identity => {}
            Kind::Filter(expr) => records.narrow(&mut predicate, expr)?,
            Kind::Compute(items) => records.compute(items)?,
            Kind::GroupBy { keys, then } => break records.grouped(keys, then.as_ref(), step)?,
            Kind::Aggregate(items) => break (records.whole(items)?, [].as_slice()),
            _ => return Err(records.of_records(step)),
        }
    };
    let mut table = Table {
        option,
        schema: binder.schema,
        now: binder.now,
        columns: columns_of(&grouping),
    };
    let mut after = table.steps(within, true)?;
    after.extend(table.steps(steps.as_slice(), false)?);
    Ok(BoundApply {
        predicate,
        grouping,
        steps: after,
        columns: table.columns,
        count: false,
    })
}

fn nothing_grouped(option: OptionText<'_>, apply: &Apply) -> QueryError {
    let first = apply.steps.first().map(|s| s.span).unwrap_or_default();
    let last = apply.steps.last().map(|s| s.span).unwrap_or_default();
    let message = "$apply neither groups nor aggregates";
    let hint = "records are chosen by $filter, $orderby, $top and $skip; add groupby(..) or \
                aggregate(..) here";
    option.hinted(first.to(last), message, Some(hint.to_owned()))
}

pub(super) fn columns_of(grouping: &Grouping) -> Vec<Column> {
    let keys = grouping.keys.iter().map(|k| (&k.name, &k.ty));
    let aggregates = grouping.aggregates.iter().map(|a| (&a.name, &a.ty));
    let columns = keys.chain(aggregates).map(|(name, ty)| Column {
        name: name.clone(),
        ty: ty.clone(),
    });
    columns.collect()
}

/// The resource that a result is: its columns are its fields.
pub(in crate::odata) fn output_resource(columns: &[Column]) -> Resource {
    let fields = columns.iter().map(|column| Field {
        name: column.name.clone(),
        ty: column.ty.clone(),
        declared: true,
    });
    Resource {
        name: "the result of $apply".to_owned(),
        key_field: String::new(),
        declared: true,
        fields: fields.collect(),
        navigation: Vec::new(),
    }
}

/// The field type of a column of that type; `None` where it can be none.
fn field_type(ty: Ty<'_>) -> Option<FieldType> {
    Some(match ty {
        Ty::Bool => FieldType::Bool,
        Ty::Int => FieldType::Int,
        Ty::Decimal => FieldType::Decimal,
        Ty::Date => FieldType::Date,
        Ty::DateTime => FieldType::DateTime,
        Ty::TimeOfDay => FieldType::TimeOfDay,
        Ty::Guid => FieldType::Guid,
        Ty::String | Ty::Member(None) => FieldType::String,
        Ty::Lookup(ty) | Ty::Member(Some(ty)) => FieldType::Lookup(ty.name.clone()),
        Ty::StringList => FieldType::StringList,
        Ty::LookupList(ty) => FieldType::LookupList(ty.name.clone()),
        Ty::Point => FieldType::GeoPoint,
        Ty::Null | Ty::Json | Ty::Entity(_) | Ty::Entities(_) => FieldType::Json,
        Ty::Line | Ty::Polygon => return None,
    })
}

/// Where expressions are resolved: the fields of a resource and the names that were computed.
pub(super) struct Scope<'a> {
    pub(super) option: OptionText<'a>,
    pub(super) schema: &'a Schema,
    pub(super) resource: &'a Resource,
    pub(super) now: Timestamp,
    pub(super) pair: Option<(FieldId, FieldId)>,
    pub(super) computed: Computed<'a>,
}

impl<'a> Scope<'a> {
    pub(super) fn binder(&self) -> Binder<'a> {
        let mut binder = Binder::new(self.option, self.schema, self.resource, self.now);
        binder.pair = self.pair;
        binder.computed = self.computed.clone();
        binder
    }

    pub(super) fn expr(&self, expr: &'a Expr) -> Result<Bound<'a>, QueryError> {
        self.binder().expr(expr)
    }

    pub(super) fn narrow(
        &self,
        filter: &mut Option<Predicate>,
        expr: &'a Expr,
    ) -> Result<(), QueryError> {
        let node = self.binder().truth(expr)?;
        *filter = Some(match filter.take() {
            None => Predicate::of(node),
            Some(before) => before.and(node),
        });
        Ok(())
    }

    fn compute(&mut self, items: &'a [Named]) -> Result<(), QueryError> {
        for item in items {
            let Some(name) = &item.name else { continue };
            let taken = self.resource.field_id(&name.text).is_some();
            if taken || self.computed.has(&name.text) {
                let message = format!("there is a {} already", name.text);
                return Err(self.option.error(name.span, message));
            }
            let bound = self.expr(&item.expr)?;
            self.typed(&item.expr, bound.ty)?;
            self.computed.add(&name.text, bound);
        }
        Ok(())
    }

    pub(super) fn typed(&self, expr: &Expr, ty: Ty<'_>) -> Result<FieldType, QueryError> {
        field_type(ty).ok_or_else(|| {
            let message = format!("{expr} is {}, which is no value of a member", ty.name());
            self.option.error(expr.span, message)
        })
    }

    /// The groups by `keys`, and what of `then` is left to do with the row of each group.
    pub(super) fn grouped(
        &self,
        keys: &'a [Named],
        then: Option<&'a Apply>,
        step: &Transformation,
    ) -> Result<(Grouping, &'a [Transformation]), QueryError> {
        let mut grouping = Grouping {
            keys: Vec::with_capacity(keys.len()),
            whole: false,
            inner: None,
            aggregates: Vec::new(),
        };
        for key in keys {
            let key = self.key(key)?;
            if grouping.keys.iter().any(|k| k.name == key.0.name) {
                let message = format!("{} is grouped by twice", key.0.name);
                return Err(self.option.error(key.1, message));
            }
            grouping.keys.push(key.0);
        }
        let Some(then) = then else {
            return Ok((grouping, &[]));
        };
        let mut within = Scope {
            computed: self.computed.clone(),
            ..*self
        };
        for (at, inner) in then.steps.iter().enumerate() {
            match &inner.kind {
                Kind::Identity => {}
                Kind::Filter(expr) => within.narrow(&mut grouping.inner, expr)?,
                Kind::Compute(items) => within.compute(items)?,
                Kind::Aggregate(items) => {
                    within.aggregates(items, &mut grouping)?;
                    let left = then.steps.get(at + 1..).unwrap_or_default();
                    return Ok((grouping, left));
                }
                _ => return Err(self.of_records(inner)),
            }
        }
        let message = "nothing is aggregated of the groups";
        let hint = "write groupby((..),aggregate($count as Count)), or groupby((..)) for the \
                    groups alone";
        Err(self
            .option
            .hinted(step.span, message, Some(hint.to_owned())))
    }

    pub(super) fn whole(&self, items: &'a [AggregateItem]) -> Result<Grouping, QueryError> {
        let mut grouping = Grouping {
            keys: Vec::new(),
            whole: true,
            inner: None,
            aggregates: Vec::new(),
        };
        self.aggregates(items, &mut grouping)?;
        Ok(grouping)
    }

    /// A key and the place where it is named.
    pub(super) fn key(&self, key: &'a Named) -> Result<(GroupKey, Span), QueryError> {
        let bound = self.expr(&key.expr)?;
        if matches!(bound.ty.class(), Class::List | Class::Opaque) {
            let message = format!("{} is {}, not one value", key.expr, bound.ty.name());
            let hint = match bound.ty.class() {
                Class::List => Some("records are grouped by single values".to_owned()),
                _ => None,
            };
            return Err(self.option.hinted(key.expr.span, message, hint));
        }
        let (name, place) = match &key.name {
            Some(name) => (Some(name.text.clone()), name.span),
            None => (key.default_name(), key.expr.span),
        };
        let Some(name) = name else {
            let message = "an expression to group by needs a name";
            let hint = format!("write {} as Name", key.expr);
            return Err(self.option.hinted(place, message, Some(hint)));
        };
        let ty = self.typed(&key.expr, bound.ty)?;
        let value = Expression::of(bound.node);
        Ok((GroupKey { name, ty, value }, place))
    }

    fn aggregates(
        &self,
        items: &'a [AggregateItem],
        grouping: &mut Grouping,
    ) -> Result<(), QueryError> {
        for item in items {
            let keys = grouping.keys.iter().map(|k| &k.name);
            let mut names = keys.chain(grouping.aggregates.iter().map(|a| &a.name));
            if names.any(|name| *name == item.name.text) {
                let message = format!("two members are named {}", item.name.text);
                return Err(self.option.error(item.name.span, message));
            }
            let aggregate = self.aggregate(item)?;
            grouping.aggregates.push(aggregate);
        }
        Ok(())
    }

    fn aggregate(&self, item: &'a AggregateItem) -> Result<Aggregate, QueryError> {
        let name = item.name.text.clone();
        let Some((expr, method)) = &item.value else {
            return Ok(Aggregate {
                name,
                ty: FieldType::Int,
                method: None,
                value: None,
                of: FieldType::Json,
            });
        };
        let bound = self.expr(expr)?;
        self.takes(*method, expr, bound.ty)?;
        let of = self.typed(expr, bound.ty)?;
        let ty = match method {
            Method::Sum | Method::Min | Method::Max => of.clone(),
            Method::Average | Method::Percentile(_) => FieldType::Decimal,
            Method::CountDistinct => FieldType::Int,
        };
        Ok(Aggregate {
            name,
            ty,
            method: Some(*method),
            value: Some(Expression::of(bound.node)),
            of,
        })
    }

    fn takes(&self, method: Method, expr: &Expr, ty: Ty<'_>) -> Result<(), QueryError> {
        let class = ty.class();
        let fits = match method {
            Method::CountDistinct => true,
            Method::Min | Method::Max => !matches!(class, Class::List | Class::Opaque),
            _ => matches!(class, Class::Number | Class::Any | Class::Null),
        };
        if fits {
            return Ok(());
        }
        let wanted = if method.takes_numbers() {
            "numbers"
        } else {
            "what has an order"
        };
        let message = format!("{method} takes {wanted}, and {expr} is {}", ty.name());
        let hint = match class {
            Class::Instant => "min and max take dates",
            Class::List => "count it: Field/$count",
            _ => "min, max and countdistinct take text",
        };
        self.option_error(expr.span, message, hint)
    }

    fn option_error(&self, span: Span, message: String, hint: &str) -> Result<(), QueryError> {
        Err(self.option.hinted(span, message, Some(hint.to_owned())))
    }

    /// The error for a transformation that is of groups only.
    fn of_records(&self, step: &Transformation) -> QueryError {
        let (name, hint) = match &step.kind {
            Kind::OrderBy(_) => (
                "orderby",
                "sort the groups after groupby(..), records by $orderby",
            ),
            Kind::Top(_) => ("top", "cut the groups after groupby(..), records by $top"),
            Kind::Skip(_) => ("skip", "cut the groups after groupby(..), records by $skip"),
            Kind::Ranked { rank, .. } => (
                rank.name(),
                "rank the groups after groupby(..), records by $orderby and $top",
            ),
            Kind::GroupBy { .. } => (
                "groupby",
                "group by all keys at once, then the groups: \
                 groupby((A,B),aggregate(..))/groupby((A),..)",
            ),
            _ => ("it", "write it after groupby(..)"),
        };
        let message = format!("{name} is of groups here, not of records");
        self.option
            .hinted(step.span, message, Some(hint.to_owned()))
    }
}
