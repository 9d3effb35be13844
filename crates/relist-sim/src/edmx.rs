//! `$metadata`: a schema as CSDL XML, in the form WFRMLS has it.

use std::fmt::Write as _;

use relist::schema::{EnumType, FieldType, Resource, Schema};

use crate::lookups::NAMESPACE;

/// The annotation that carries a member's display name.
const STANDARD_NAME: &str = "RESO.OData.Metadata.StandardName";
/// The annotation that says which lookup a field's values are of.
const LOOKUP_NAME: &str = "RESO.OData.Metadata.LookupName";

/// The schema as an EDMX document. Resources that are not declared are left out.
pub fn document(schema: &Schema) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let declared = || schema.resources.iter().filter(|r| r.declared);
    out.push_str(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n\
         <edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n \
         <edmx:DataServices>\n  \
         <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Default\">\n   \
         <EntityContainer Name=\"Container\">\n",
    );
    for resource in declared() {
        let name = &resource.name;
        line(
            &mut out,
            4,
            &format!(r#"<EntitySet EntityType="{NAMESPACE}.{name}" Name="{name}">"#),
        );
        for navigation in &resource.navigation {
            let (path, target) = (&navigation.name, &navigation.target);
            let tag = format!(r#"<NavigationPropertyBinding Path="{path}" Target="{target}"/>"#);
            line(&mut out, 5, &tag);
        }
        line(&mut out, 4, "</EntitySet>");
    }
    line(&mut out, 3, "</EntityContainer>");
    line(&mut out, 2, "</Schema>");
    let ns = "http://docs.oasis-open.org/odata/ns/edm";
    line(
        &mut out,
        2,
        &format!(r#"<Schema xmlns="{ns}" Namespace="{NAMESPACE}">"#),
    );
    for ty in &schema.enums {
        enum_type(&mut out, ty);
    }
    for resource in declared() {
        entity_type(&mut out, resource);
    }
    line(&mut out, 2, "</Schema>");
    line(&mut out, 1, "</edmx:DataServices>");
    line(&mut out, 0, "</edmx:Edmx>");
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:depth$}{text}", "");
}

fn enum_type(out: &mut String, ty: &EnumType) {
    let (name, flags) = (ty.short_name(), ty.is_flags);
    let tag = format!(r#"<EnumType IsFlags="{flags}" Name="{name}" UnderlyingType="Edm.Int32">"#);
    line(out, 3, &tag);
    for member in &ty.members {
        let (name, value) = (&member.name, member.value);
        match &member.display {
            None => line(
                out,
                4,
                &format!(r#"<Member Name="{name}" Value="{value}"/>"#),
            ),
            Some(display) => {
                line(
                    out,
                    4,
                    &format!(r#"<Member Name="{name}" Value="{value}">"#),
                );
                annotation(out, 5, display, STANDARD_NAME);
                line(out, 4, "</Member>");
            }
        }
    }
    line(out, 3, "</EnumType>");
}

fn annotation(out: &mut String, depth: usize, text: &str, term: &str) {
    line(
        out,
        depth,
        &format!(r#"<Annotation String="{}" Term="{term}"/>"#, escape(text)),
    );
}

fn entity_type(out: &mut String, resource: &Resource) {
    line(out, 3, &format!(r#"<EntityType Name="{}">"#, resource.name));
    line(out, 4, "<Key>");
    line(
        out,
        5,
        &format!(r#"<PropertyRef Name="{}"/>"#, resource.key_field),
    );
    line(out, 4, "</Key>");
    for field in resource.fields.iter().filter(|f| f.declared) {
        let (name, (facets, ty)) = (&field.name, edm(&field.ty));
        match &field.ty {
            FieldType::Lookup(lookup) | FieldType::LookupList(lookup) => {
                line(out, 4, &format!(r#"<Property Name="{name}" Type="{ty}">"#));
                let short = lookup.rsplit('.').next().unwrap_or(lookup);
                annotation(out, 5, short, LOOKUP_NAME);
                line(out, 4, "</Property>");
            }
            _ => line(
                out,
                4,
                &format!(r#"<Property Name="{name}"{facets} Type="{ty}"/>"#),
            ),
        }
    }
    for navigation in &resource.navigation {
        let (name, target, partner) = (&navigation.name, &navigation.target, &resource.name);
        let ty = if navigation.collection {
            format!("Collection({NAMESPACE}.{target})")
        } else {
            format!("{NAMESPACE}.{target}")
        };
        let tag = format!(r#"<NavigationProperty Name="{name}" Partner="{partner}" Type="{ty}"/>"#);
        line(out, 4, &tag);
    }
    line(out, 3, "</EntityType>");
}

/// A field's facets and its type, as WFRMLS writes them.
fn edm(ty: &FieldType) -> (&'static str, String) {
    let (facets, name) = match ty {
        FieldType::Bool => ("", "Edm.Boolean"),
        FieldType::Int => (r#" Precision="10" Scale="0""#, "Edm.Int32"),
        FieldType::Decimal => (r#" Precision="14" Scale="2""#, "Edm.Decimal"),
        FieldType::Date => (r#" MaxLength="10""#, "Edm.Date"),
        FieldType::DateTime => (
            r#" MaxLength="27" Precision="27" Scale="0""#,
            "Edm.DateTimeOffset",
        ),
        FieldType::TimeOfDay => ("", "Edm.TimeOfDay"),
        FieldType::Guid => ("", "Edm.Guid"),
        FieldType::StringList => ("", "Collection(Edm.String)"),
        FieldType::Lookup(name) | FieldType::LookupList(name) => return ("", name.clone()),
        FieldType::GeoPoint => (r#" SRID="3956""#, "Edm.GeographyPoint"),
        FieldType::Json => ("", "Edm.Untyped"),
        FieldType::String => (r#" MaxLength="4000""#, "Edm.String"),
    };
    (facets, name.to_owned())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
