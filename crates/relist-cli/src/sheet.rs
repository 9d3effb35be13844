//! Records for people: which fields to show when none are asked for.

use std::io::{self, Write};

use relist::record::Record;
use relist::schema::{FieldId, FieldType, Resource};
use relist_export::CellText;

use crate::style::Paint;
use crate::table::{Column, Cut, Table};

/// Records looked at before the columns are chosen.
const SAMPLE: usize = 200;
/// The most columns that are chosen.
const MOST_COLUMNS: usize = 9;

/// Fields that say most about a record, of whichever resource, in the order they are shown.
const TELLING: &[&str] = &[
    "StandardStatus",
    "ListPrice",
    "ClosePrice",
    "City",
    "UnparsedAddress",
    "BedroomsTotal",
    "BathroomsTotalInteger",
    "LivingArea",
    "PropertyType",
    "YearBuilt",
    "OnMarketDate",
    "MemberFullName",
    "MemberFirstName",
    "MemberLastName",
    "MemberStatus",
    "MemberOfficeName",
    "OfficeName",
    "OfficeStatus",
    "OfficeCity",
    "OfficePhone",
    "ListingKeyNumeric",
    "ListingKey",
    "OpenHouseDate",
    "OpenHouseStartTime",
    "OpenHouseEndTime",
    "OpenHouseStatus",
    "ResourceRecordKeyNumeric",
    "ResourceRecordKey",
    "Order",
    "MediaCategory",
    "MediaURL",
    "LookupName",
    "LookupValue",
    "ModificationTimestamp",
];

/// Fields that say nothing once the other is shown.
const TWINS: &[(&str, &str)] = &[
    ("MemberFirstName", "MemberFullName"),
    ("MemberLastName", "MemberFullName"),
    ("ListingKey", "ListingKeyNumeric"),
    ("ResourceRecordKey", "ResourceRecordKeyNumeric"),
];

/// A table of records.
pub(crate) struct Sheet {
    width: Option<usize>,
    paint: Paint,
    waiting: Vec<Record>,
    /// The columns, once they are chosen, and the table.
    table: Option<(Vec<FieldId>, Table)>,
    selected: Option<Vec<FieldId>>,
    fields: usize,
}

/// What a sheet left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Left {
    /// What did not fit.
    pub(crate) cut: Cut,
    /// Fields shown, and fields that the records have; when they were chosen here.
    pub(crate) chosen: Option<(usize, usize)>,
}

impl Sheet {
    /// `selected` are the columns, when the query names them.
    pub(crate) fn new(width: Option<usize>, paint: Paint, selected: Option<Vec<FieldId>>) -> Self {
        Sheet {
            width,
            paint,
            waiting: Vec::new(),
            table: None,
            selected,
            fields: 0,
        }
    }

    pub(crate) fn record(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        if let Some((fields, table)) = &mut self.table {
            return table.row(cells(record, fields), out);
        }
        self.waiting.push(record.clone());
        if self.waiting.len() >= SAMPLE {
            self.begin(out)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, out: &mut dyn Write) -> io::Result<Left> {
        self.begin(out)?;
        let Some((fields, table)) = self.table else {
            return Ok(Left::default());
        };
        let shown = fields.len();
        let cut = table.finish(out)?;
        let chosen = self
            .selected
            .is_none()
            .then_some((shown - cut.columns, self.fields));
        Ok(Left { cut, chosen })
    }

    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(first) = waiting.first() else {
            return Ok(());
        };
        let resource = first.resource().clone();
        let fields = match &self.selected {
            Some(fields) => fields.clone(),
            None => self.choose(&resource, &waiting),
        };
        let columns = fields
            .iter()
            .filter_map(|id| resource.field(*id))
            .map(|field| Column {
                title: field.name.clone(),
                right: matches!(field.ty, FieldType::Int | FieldType::Decimal)
                    && field.name != resource.key_field,
                if_any: false,
            });
        let mut table = Table::new(columns.collect(), self.width, self.paint);
        if self.selected.is_none() {
            table = table.whole_values();
        }
        for record in &waiting {
            table.row(cells(record, &fields), out)?;
        }
        self.table = Some((fields, table));
        Ok(())
    }

    /// The key, then what says most, then whatever there is; only what has a value.
    fn choose(&mut self, resource: &Resource, sample: &[Record]) -> Vec<FieldId> {
        let mut populated = vec![false; resource.fields.len()];
        for (field, _) in sample
            .iter()
            .flat_map(Record::cells)
            .filter(|(_, c)| !c.is_null())
        {
            if let Some(slot) = populated.get_mut(usize::from(field.0)) {
                *slot = true;
            }
        }
        self.fields = populated.iter().filter(|p| **p).count();
        let has = |id: &FieldId| populated.get(usize::from(id.0)) == Some(&true);
        let key = resource.field_id(&resource.key_field);
        let telling = TELLING
            .iter()
            .filter_map(|name| resource.field_id(name))
            .filter(has);
        let mut fields: Vec<FieldId> = key.into_iter().chain(telling).collect();
        let name = |id: FieldId| resource.field(id).map_or("", |f| f.name.as_str());
        let mut seen: Vec<&str> = Vec::new();
        fields.retain(|id| {
            let own = name(*id);
            let twin = TWINS.iter().any(|(a, b)| *a == own && seen.contains(b));
            let new = !twin && !seen.contains(&own);
            seen.push(own);
            new
        });
        if fields.len() < 4 {
            let rest = (0..=u16::MAX)
                .map(FieldId)
                .take(populated.len())
                .filter(has);
            let rest: Vec<_> = rest.filter(|id| !fields.contains(id)).collect();
            fields.extend(rest);
        }
        fields.truncate(MOST_COLUMNS);
        fields
    }
}

fn cells(record: &Record, fields: &[FieldId]) -> Vec<String> {
    let text = |id: &FieldId| record.cell(*id).map_or(CellText::Empty, CellText::of);
    fields
        .iter()
        .map(|id| text(id).as_str().to_owned())
        .collect()
}
