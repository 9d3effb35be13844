//! Resolving what `$apply` does with groups.

use super::ast::{Named, Rank, Transformation, TransformationKind as Kind};
use super::bind::{Scope, columns_of, output_resource};
use super::bound::{Column, Expression, GroupStep};
use crate::error::QueryError;
use crate::odata::ast::Expr;
use crate::odata::bind::{Binder, Computed};
use crate::odata::predicate::OrderBy;
use crate::odata::text::OptionText;
use crate::odata::types::Class;
use crate::schema::{Resource, Schema};
use crate::value::{Decimal, Timestamp};

impl<'a> Scope<'a> {
    /// `topcount` and its kin.
    fn ranked(&self, rank: Rank, amount: &'a Expr, by: &'a Expr) -> Result<GroupStep, QueryError> {
        let bound = self.expr(amount)?;
        let value = bound
            .node
            .constant()
            .and_then(crate::value::Value::as_decimal);
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

/// The steps that follow the grouping, and the columns as they are so far.
pub(super) struct Table<'a> {
    pub(super) option: OptionText<'a>,
    pub(super) schema: &'a Schema,
    pub(super) now: Timestamp,
    pub(super) columns: Vec<Column>,
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
    pub(super) fn steps(
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
