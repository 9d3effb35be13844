//! Schemas from `$metadata`: what is read of real documents and of every CSDL construct.

use relist::error::Error;
use relist::schema::{FieldType, Resource, Schema};
use relist_tests::data;
use std::collections::BTreeMap;

/// A document of one schema with the namespace `N` and the alias `A`.
fn document(body: &str) -> String {
    format!(
        "<edmx:Edmx Version=\"4.0\" xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\">\
         <edmx:DataServices><Schema Namespace=\"N\" Alias=\"A\" \
         xmlns=\"http://docs.oasis-open.org/odata/ns/edm\">{body}</Schema>\
         </edmx:DataServices></edmx:Edmx>"
    )
}

/// A document with one set `Things` of a type with a key and these properties.
fn things(declarations: &str, properties: &str) -> String {
    document(&format!(
        "{declarations}<EntityType Name=\"Thing\"><Key><PropertyRef Name=\"Id\"/></Key>\
         <Property Name=\"Id\" Type=\"Edm.String\"/>{properties}</EntityType>\
         <EntityContainer Name=\"C\"><EntitySet Name=\"Things\" EntityType=\"A.Thing\"/>\
         </EntityContainer>"
    ))
}

fn parse(xml: &str) -> Schema {
    Schema::from_metadata(xml.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{xml}"))
}

fn types(resource: &Resource) -> BTreeMap<&str, &FieldType> {
    resource
        .fields
        .iter()
        .map(|f| (f.name.as_str(), &f.ty))
        .collect()
}

/// The reason, and the text of the document at the place it names.
fn refused(xml: &str) -> (String, String) {
    match Schema::from_metadata(xml.as_bytes()) {
        Err(Error::Metadata { reason, offset }) => {
            let at = usize::try_from(offset).unwrap();
            (reason, xml[at..].chars().take(40).collect())
        }
        other => panic!("{other:?}\n{xml}"),
    }
}

#[test]
fn the_metadata_of_wfrmls_is_read_whole() {
    let test = "the_metadata_of_wfrmls_is_read_whole";
    let Some(xml) = data::read(test, "wfrmls-metadata.xml") else {
        return;
    };
    let schema = Schema::from_metadata(&xml).unwrap();
    let names: Vec<_> = schema.resources.iter().map(|r| r.name.as_str()).collect();
    let expected = "Property Member Office OpenHouse Media DataSystem Resource \
                    PropertyUnitTypes Adu Lookup";
    assert_eq!(names.join(" "), expected);

    let property = schema.resource("Property").unwrap();
    assert_eq!(property.key_field, "ListingKeyNumeric");
    assert_eq!(
        property.field_named("ListingKeyNumeric").unwrap().ty,
        FieldType::Int
    );
    let mut counts = BTreeMap::new();
    for field in &property.fields {
        let kind = match &field.ty {
            FieldType::Lookup(name) | FieldType::LookupList(name) => {
                assert!(schema.enum_type(name).is_some(), "{name}");
                "enum"
            }
            FieldType::String => "string",
            FieldType::Int => "int",
            FieldType::Bool => "bool",
            FieldType::Decimal => "decimal",
            FieldType::Date => "date",
            FieldType::DateTime => "timestamp",
            FieldType::GeoPoint => "point",
            other => panic!("{}: {other:?}", field.name),
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([
        ("string", 128),
        ("enum", 103),
        ("int", 37),
        ("bool", 25),
        ("decimal", 19),
        ("date", 9),
        ("timestamp", 5),
        ("point", 1),
    ]);
    assert_eq!(counts, expected);
    assert_eq!(property.fields.len(), 327);
    let navigation: Vec<_> = property
        .navigation
        .iter()
        .map(|n| n.target.as_str())
        .collect();
    assert_eq!(
        navigation.join(" "),
        "Media Member Office OpenHouse PropertyUnitTypes Adu"
    );
    assert!(property.navigation.iter().all(|n| n.collection));

    assert_eq!(schema.enums.len(), 107);
    assert_eq!(
        schema.enums.iter().map(|e| e.members.len()).sum::<usize>(),
        7_364
    );
    assert_eq!(schema.enums.iter().filter(|e| e.is_flags).count(), 69);
    let largest = schema
        .enums
        .iter()
        .flat_map(|e| &e.members)
        .map(|m| m.value)
        .max();
    assert_eq!(largest, Some(1 << 62));
    let city = schema.enum_type("Odata.Models.City").unwrap();
    let ada = city.members.iter().find(|m| m.name == "AdaCounty").unwrap();
    assert_eq!(
        (ada.value, ada.display.as_deref()),
        (840, Some("Ada County"))
    );
    assert_eq!(schema.resource("Media").unwrap().key_field, "MediaKey");
}

#[test]
fn the_data_dictionary_is_read_whole() {
    let test = "the_data_dictionary_is_read_whole";
    let Some(xml) = data::read(test, "reso-dd-2.0-lookup-resource.edmx.xml") else {
        return;
    };
    let schema = Schema::from_metadata(&xml).unwrap();
    assert_eq!(schema.resources.len(), 41);
    let property = schema.resource("Property").unwrap();
    // The dictionary's 652 fields of Property: 632 hold values, 20 lead to other resources.
    assert_eq!(property.fields.len(), 632);
    assert_eq!(property.navigation.len(), 20);
    assert_eq!(property.key_field, "ListingKey");
    assert_eq!(
        property.field_named("Appliances").unwrap().ty,
        FieldType::StringList
    );
    assert_eq!(
        property.field_named("ListPrice").unwrap().ty,
        FieldType::Decimal
    );
    let media = property
        .navigation
        .iter()
        .find(|n| n.name == "Media")
        .unwrap();
    assert_eq!((media.target.as_str(), media.collection), ("Media", true));
    let total: usize = schema.resources.iter().map(|r| r.fields.len()).sum();
    assert_eq!(total, 1_602);
}

#[test]
fn a_cut_of_the_real_metadata_is_an_error_wherever_it_is_cut() {
    let test = "a_cut_of_the_real_metadata_is_an_error_wherever_it_is_cut";
    let Some(xml) = data::read(test, "wfrmls-metadata.xml") else {
        return;
    };
    let end = xml.len() - "</edmx:Edmx>\n".len();
    for cut in (0..end).step_by(20_011) {
        assert!(Schema::from_metadata(&xml[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn every_edm_type_has_its_field_type() {
    let kinds = [
        ("Boolean", FieldType::Bool),
        ("Byte", FieldType::Int),
        ("SByte", FieldType::Int),
        ("Int16", FieldType::Int),
        ("Int32", FieldType::Int),
        ("Int64", FieldType::Int),
        ("Decimal", FieldType::Decimal),
        ("Double", FieldType::Decimal),
        ("Single", FieldType::Decimal),
        ("Date", FieldType::Date),
        ("DateTimeOffset", FieldType::DateTime),
        ("TimeOfDay", FieldType::TimeOfDay),
        ("Guid", FieldType::Guid),
        ("String", FieldType::String),
        ("Duration", FieldType::String),
        ("Binary", FieldType::String),
        ("GeographyPoint", FieldType::GeoPoint),
        ("GeographyPolygon", FieldType::Json),
        ("GeometryPoint", FieldType::Json),
        ("Untyped", FieldType::Json),
    ];
    for (name, expected) in kinds {
        let property = format!("<Property Name=\"F\" Type=\"Edm.{name}\"/>");
        let schema = parse(&things("", &property));
        assert_eq!(schema.resources[0].fields[1].ty, expected, "{name}");
        let property = format!("<Property Name=\"F\" Type=\"Collection(Edm.{name})\"/>");
        let schema = parse(&things("", &property));
        let many = if name == "String" {
            FieldType::StringList
        } else {
            FieldType::Json
        };
        assert_eq!(schema.resources[0].fields[1].ty, many, "{name}");
    }
    let schema = parse(&things(
        "",
        "<Property Name=\"Photo\" Type=\"Edm.Stream\"/>",
    ));
    assert!(schema.resources[0].field_named("Photo").is_none());
}

#[test]
fn declared_types_are_resolved_through_alias_and_namespace() {
    let declarations = "<EnumType Name=\"One\"><Member Name=\"A\"/></EnumType>\
         <EnumType Name=\"Many\" IsFlags=\"true\"><Member Name=\"A\" Value=\"1\"/></EnumType>\
         <ComplexType Name=\"Address\"><Property Name=\"City\" Type=\"Edm.String\"/></ComplexType>\
         <TypeDefinition Name=\"Money\" UnderlyingType=\"Edm.Decimal\"/>\
         <TypeDefinition Name=\"Price\" UnderlyingType=\"A.Money\"/>";
    let properties = "<Property Name=\"One\" Type=\"A.One\"/>\
         <Property Name=\"Ones\" Type=\"Collection(N.One)\"/>\
         <Property Name=\"Many\" Type=\"N.Many\"/>\
         <Property Name=\"Address\" Type=\"A.Address\"/>\
         <Property Name=\"Addresses\" Type=\"Collection(N.Address)\"/>\
         <Property Name=\"Price\" Type=\"N.Price\"/>";
    let schema = parse(&things(declarations, properties));
    let fields = types(&schema.resources[0]);
    assert_eq!(fields["One"], &FieldType::Lookup("N.One".into()));
    assert_eq!(fields["Ones"], &FieldType::LookupList("N.One".into()));
    assert_eq!(fields["Many"], &FieldType::LookupList("N.Many".into()));
    assert_eq!(fields["Address"], &FieldType::Json);
    assert_eq!(fields["Addresses"], &FieldType::Json);
    assert_eq!(fields["Price"], &FieldType::Decimal);
}

#[test]
fn types_of_another_document_are_kept_whole() {
    let xml = things("", "<Property Name=\"X\" Type=\"V.Thing\"/>").replace(
        "<edmx:DataServices>",
        "<edmx:Reference Uri=\"https://example.org/v.xml\">\
         <edmx:Include Namespace=\"Vendor.V1\" Alias=\"V\"/></edmx:Reference><edmx:DataServices>",
    );
    assert_eq!(
        parse(&xml).resources[0].field_named("X").unwrap().ty,
        FieldType::Json
    );
}

#[test]
fn fields_key_and_navigation_are_inherited() {
    let xml = document(
        "<EntityType Name=\"Base\" Abstract=\"true\"><Key><PropertyRef Name=\"Id\"/></Key>\
         <Property Name=\"Id\" Type=\"Edm.Int64\"/>\
         <NavigationProperty Name=\"Owner\" Type=\"A.Agent\"/></EntityType>\
         <EntityType Name=\"Listing\" BaseType=\"A.Base\">\
         <Property Name=\"Id\" Type=\"Edm.Int64\"/>\
         <Property Name=\"Price\" Type=\"Edm.Decimal\"/>\
         <NavigationProperty Name=\"Photos\" Type=\"Collection(N.Photo)\"/></EntityType>\
         <EntityType Name=\"Agent\" BaseType=\"N.Base\"/>\
         <EntityType Name=\"Photo\" BaseType=\"N.Base\"/>\
         <EntityContainer Name=\"C\"><EntitySet Name=\"Listings\" EntityType=\"N.Listing\">\
         <NavigationPropertyBinding Path=\"N.Listing/Owner\" Target=\"N.C/Members\"/></EntitySet>\
         <EntitySet Name=\"Members\" EntityType=\"A.Agent\"/></EntityContainer>",
    );
    let schema = parse(&xml);
    let listing = schema.resource("Listings").unwrap();
    let names: Vec<_> = listing.fields.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["Id", "Price"]);
    assert_eq!(listing.key_field, "Id");
    let navigation: Vec<_> = listing
        .navigation
        .iter()
        .map(|n| (n.name.as_str(), n.target.as_str(), n.collection))
        .collect();
    // Bound to a set; no set holds photos, so the type is named.
    assert_eq!(
        navigation,
        [("Owner", "Members", false), ("Photos", "Photo", true)]
    );
    assert_eq!(
        schema.resource("Members").unwrap().navigation[0].target,
        "Members"
    );
}

#[test]
fn members_have_values_and_display_texts() {
    let declarations = "<EnumType Name=\"E\">\
         <Member Name=\"Zero\"/>\
         <Member Name=\"One\"><Annotation Term=\"X.Description\" String=\"d\"/>\
         <Annotation Term=\"RESO.OData.Metadata.StandardName\" String=\"Number One\"/></Member>\
         <Member Name=\"Big\" Value=\"4611686018427387904\">\
         <Annotation Term=\"RESO.OData.Metadata.LegacyODataLookupValue\"><String>Big &amp; \
         bigger</String></Annotation></Member>\
         <Member Name=\"Next\"><Annotation Term=\"S.StandardName\" String=\"Next\"/></Member>\
         <Member Name=\"Outside\" Value=\"-1\"/></EnumType>\
         <Annotations Target=\"A.E/Outside\">\
         <Annotation Term=\"Core.Description\" String=\"Out there\"/></Annotations>";
    let schema = parse(&things(declarations, ""));
    let members: Vec<_> = schema.enums[0]
        .members
        .iter()
        .map(|m| (m.name.as_str(), m.value, m.display.as_deref()))
        .collect();
    assert_eq!(
        members,
        [
            ("Zero", 0, None),
            ("One", 1, Some("Number One")),
            ("Big", 1 << 62, Some("Big & bigger")),
            ("Next", (1 << 62) + 1, None),
            ("Outside", -1, Some("Out there")),
        ]
    );
}

#[test]
fn several_schemas_are_one_service() {
    let xml = things("", "<Property Name=\"E\" Type=\"Other.E\"/>").replace(
        "</edmx:DataServices>",
        "<Schema Namespace=\"Other\"><EnumType Name=\"E\"/></Schema></edmx:DataServices>",
    );
    assert_eq!(
        parse(&xml).resources[0].field_named("E").unwrap().ty,
        FieldType::Lookup("Other.E".into())
    );
}

#[test]
fn wrong_documents_name_the_place() {
    let set = "<EntityContainer Name=\"C\"><EntitySet Name=\"S\" EntityType=\"N.T\"/>\
               </EntityContainer>";
    let keyed = |key: &str| {
        document(&format!(
            "<EntityType Name=\"T\">{key}<Property Name=\"A\" Type=\"Edm.Int32\"/>\
             <Property Name=\"B\" Type=\"Edm.Int32\"/></EntityType>{set}"
        ))
    };
    let enum_type = |body: &str| things(&format!("<EnumType Name=\"E\"{body}</EnumType>"), "");
    for (xml, reason, place) in [
        (
            "<html><body>404</body></html>".into(),
            "<html> found",
            "<html>",
        ),
        (document(""), "no EntitySet", "<edmx:Edmx"),
        (
            document("").replace("\"4.0\"", "\"1.0\""),
            "OData 4.0",
            "<edmx:Edmx",
        ),
        (document(set), "no EntityType is named N.T", "<EntitySet"),
        (keyed(""), "no Key", "<EntityType"),
        (keyed("<Key/>"), "no PropertyRef", "<Key"),
        (
            keyed("<Key><PropertyRef Name=\"A\"/><PropertyRef Name=\"B\"/></Key>"),
            "several parts (A, B)",
            "<Key",
        ),
        (
            keyed("<Key><PropertyRef Name=\"Z\"/></Key>"),
            "not one of its fields",
            "<EntityType",
        ),
        (
            things("", "<Property Name=\"P\" Type=\"A.Nothing\"/>"),
            "named N.Nothing",
            "<Property",
        ),
        (
            things("", "<Property Name=\"P\" Type=\"Edm.DateTime\"/>"),
            "Edm.DateTime",
            "<Property",
        ),
        (
            things("", "<Property Name=\"P\"/>"),
            "P has no Type",
            "<Property Name=\"P\"",
        ),
        (
            things("", "<Property Name=\"Id\" Type=\"Edm.Int32\"/>"),
            "twice",
            "<Property",
        ),
        (
            things("<EntityType Name=\"Thing\"/>", ""),
            "N.Thing is declared twice",
            "<EntityType",
        ),
        (
            enum_type("><Member Name=\"M\" Value=\"x\"/>"),
            "64 bits",
            "<Member",
        ),
        (
            enum_type("><Member Name=\"M\" Value=\"9223372036854775808\"/>"),
            "64 bits",
            "<Member",
        ),
        (
            enum_type("><Member Name=\"M\" Value=\"9223372036854775807\"/><Member Name=\"L\"/>"),
            "no value is left",
            "<Member Name=\"L\"",
        ),
        (enum_type(" IsFlags=\"yes\">"), "true or false", "<EnumType"),
        (
            things(
                "<TypeDefinition Name=\"D\" UnderlyingType=\"N.D\"/>",
                "<Property Name=\"P\" \
                    Type=\"N.D\"/>",
            ),
            "circle",
            "<Property",
        ),
        (
            keyed("").replace("Name=\"T\"", "Name=\"T\" BaseType=\"N.T\""),
            "circle",
            "<EntityType",
        ),
        (
            things("", "").replace("</Schema>", "</Shema>"),
            "</Shema>",
            "</Shema>",
        ),
        (
            format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{}", things("", "")),
            "refused",
            "<!DOCTYPE",
        ),
    ] {
        let (found, at) = refused(&xml);
        assert!(found.contains(reason), "{found}, not {reason}\n{xml}");
        assert!(at.starts_with(place), "{found}: {at}, not {place}");
    }
}
