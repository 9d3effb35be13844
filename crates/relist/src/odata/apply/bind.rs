//! Resolving `$apply` against a schema.

use super::ast::{AggregateItem, Apply, Named, Rank, Transformation, TransformationKind as Kind};
use super::bound::{Aggregate, BoundApply, Column, Expression, GroupKey, GroupStep, Grouping};
use super::method::Method;
use crate::error::QueryError;
use crate::odata::ast::{Expr, Span};
use crate::odata::bind::{Binder, Bound, Computed};
use crate::odata::predicate::{OrderBy, Predicate};
use crate::odata::text::OptionText;
use crate::odata::types::{Class, Ty};
use crate::schema::{Field, FieldId, FieldType, Resource, Schema};
use crate::value::{Decimal, Timestamp, Value};

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

fn columns_of(grouping: &Grouping) -> Vec<Column> {
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
struct Scope<'a> {
    option: OptionText<'a>,
    schema: &'a Schema,
    resource: &'a Resource,
    now: Timestamp,
    pair: Option<(FieldId, FieldId)>,
    computed: Computed<'a>,
}

impl<'a> Scope<'a> {
    fn binder(&self) -> Binder<'a> {
        let mut binder = Binder::new(self.option, self.schema, self.resource, self.now);
        binder.pair = self.pair;
        binder.computed = self.computed.clone();
        binder
    }

    fn expr(&self, expr: &'a Expr) -> Result<Bound<'a>, QueryError> {
        self.binder().expr(expr)
    }

    fn narrow(&self, filter: &mut Option<Predicate>, expr: &'a Expr) -> Result<(), QueryError> {
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

    fn typed(&self, expr: &Expr, ty: Ty<'_>) -> Result<FieldType, QueryError> {
        field_type(ty).ok_or_else(|| {
            let message = format!("{expr} is {}, which is no value of a member", ty.name());
            self.option.error(expr.span, message)
        })
    }

    /// The groups by `keys`, and what of `then` is left to do with the row of each group.
    fn grouped(
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

    fn whole(&self, items: &'a [AggregateItem]) -> Result<Grouping, QueryError> {
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
    fn key(&self, key: &'a Named) -> Result<(GroupKey, Span), QueryError> {
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

/// The steps that follow the grouping, and the columns as they are so far.
struct Table<'a> {
    option: OptionText<'a>,
    schema: &'a Schema,
    now: Timestamp,
    columns: Vec<Column>,
}

impl<'a> Table<'a> {
    fn scope<'s>(&self, resource: &'s Resource) -> Scope<'s>
    where
        'a: 's,
    {
        Scope {
            option: self.option,
            schema: self.schema,
            resource,
            now: self.now,
            pair: Binder::new(self.option, self.schema, resource, self.now).pair,
            computed: Computed::default(),
        }
    }

    /// Resolves the steps. `single` are those within a group, of which there is one row each.
    fn steps(
        &mut self,
        steps: &[Transformation],
        single: bool,
    ) -> Result<Vec<GroupStep>, QueryError> {
        let mut out = Vec::new();
        for step in steps {
            let of_one = matches!(
                step.kind,
                Kind::Identity | Kind::Filter(_) | Kind::Compute(_)
            );
            if single && !of_one {
                let message = "within a group there is one row here";
                let hint = "close groupby(..) before it: groupby((..),aggregate(..))/..".to_owned();
                return Err(self.option.hinted(step.span, message, Some(hint)));
            }
            self.step(step, &mut out)?;
        }
        Ok(out)
    }

    fn step(&mut self, step: &Transformation, out: &mut Vec<GroupStep>) -> Result<(), QueryError> {
        let resource = output_resource(&self.columns);
        let scope = self.scope(&resource);
        match &step.kind {
            Kind::Identity => {}
            Kind::Filter(expr) => {
                let mut predicate = None;
                scope.narrow(&mut predicate, expr)?;
                out.extend(predicate.map(GroupStep::Filter));
            }
            Kind::Compute(items) => self.compute(items, out)?,
            Kind::OrderBy(items) => {
                out.push(GroupStep::OrderBy(OrderBy::bind(
                    &mut scope.binder(),
                    items,
                )?));
            }
            Kind::Top(rows) => out.push(GroupStep::Top(*rows)),
            Kind::Skip(rows) => out.push(GroupStep::Skip(*rows)),
            Kind::Ranked { rank, amount, by } => {
                out.push(scope.ranked(*rank, amount, by)?);
            }
            Kind::Aggregate(items) => {
                let grouping = scope.whole(items)?;
                self.columns = columns_of(&grouping);
                out.push(GroupStep::Group(grouping));
            }
            Kind::GroupBy { keys, then } => {
                let then_steps = then.as_ref().map_or([].as_slice(), |t| t.steps.as_slice());
                let aggregates = then_steps
                    .iter()
                    .any(|s| matches!(s.kind, Kind::Aggregate(_)));
                if then.is_some() && !aggregates {
                    return self.each(keys, then_steps, out);
                }
                let (grouping, within) = scope.grouped(keys, then.as_ref(), step)?;
                self.columns = columns_of(&grouping);
                out.push(GroupStep::Group(grouping));
                out.extend(self.steps(within, true)?);
            }
        }
        Ok(())
    }

    fn compute(&mut self, items: &[Named], out: &mut Vec<GroupStep>) -> Result<(), QueryError> {
        let mut added = Vec::with_capacity(items.len());
        for item in items {
            let Some(name) = &item.name else { continue };
            let resource = output_resource(&self.columns);
            let scope = self.scope(&resource);
            if resource.field_id(&name.text).is_some() {
                let message = format!("there is a {} already", name.text);
                return Err(self.option.error(name.span, message));
            }
            let bound = scope.expr(&item.expr)?;
            let ty = scope.typed(&item.expr, bound.ty)?;
            added.push(Expression::of(bound.node));
            self.columns.push(Column {
                name: name.text.clone(),
                ty,
            });
        }
        out.push(GroupStep::Compute(added));
        Ok(())
    }

    /// `groupby((..),..)` that keeps the rows of each group.
    fn each(
        &mut self,
        keys: &[Named],
        then: &[Transformation],
        out: &mut Vec<GroupStep>,
    ) -> Result<(), QueryError> {
        let resource = output_resource(&self.columns);
        let scope = self.scope(&resource);
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let (bound, place) = scope.key(key)?;
            if bound.value.plain().is_none() || resource.field_id(&bound.name).is_none() {
                let message = "within these groups rows are kept as they are";
                let hint = format!("compute({} as {}) before it", key.expr, bound.name);
                return Err(self.option.hinted(place, message, Some(hint)));
            }
            values.push(bound.value);
        }
        let then = self.steps(then, false)?;
        out.push(GroupStep::Each { keys: values, then });
        Ok(())
    }
}

impl<'a> Scope<'a> {
    fn ranked(&self, rank: Rank, amount: &'a Expr, by: &'a Expr) -> Result<GroupStep, QueryError> {
        let bound = self.expr(amount)?;
        let value = bound.node.constant().and_then(Value::as_decimal);
        let value =
            value.filter(|v| *v >= Decimal::from(0) && (!rank.counts() || v.to_i64().is_some()));
        let Some(value) = value else {
            let wanted = if rank.counts() {
                "a whole number from 0"
            } else {
                "a number from 0"
            };
            let message = format!("{} takes {wanted} first, not {amount}", rank.name());
            return Err(self.option.error(amount.span, message));
        };
        let bound = self.expr(by)?;
        let class = bound.ty.class();
        let fits = if rank.counts() {
            !matches!(class, Class::List | Class::Opaque)
        } else {
            matches!(class, Class::Number | Class::Any | Class::Null)
        };
        if !fits {
            let wanted = if rank.counts() {
                "what has an order"
            } else {
                "numbers"
            };
            let message = format!(
                "{} ranks {wanted}, and {by} is {}",
                rank.name(),
                bound.ty.name()
            );
            return Err(self.option.error(by.span, message));
        }
        Ok(GroupStep::Ranked {
            rank,
            amount: value,
            by: Expression::of(bound.node),
        })
    }
}
