"""A RESO Web API that is not ours: odatapy serving a real `$metadata` document.

It fills Property, Member and Office with entities that depend on nothing but --rows, and serves
them on loopback until its standard input ends (or for ever, with --forever). The port is written
to --port-file once it answers. Entities can be changed over HTTP (PATCH, DELETE, POST).

Two fields are declared as collections here, so that any/all have something to work on: the real
document has none, other services declare their lists so.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import random
import sys
import threading
from decimal import Decimal
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from odatapy.data import Entity, ValueType
from odatapy.edm.xml_io import XmlEdmProvider
from odatapy.server import OData
from odatapy.server.adapters import ODataWSGIApp
from odatapy.server.inmemory import InMemoryDataStore, InMemoryProcessor

NAMESPACE = "Odata.Models"
COLLECTIONS = {"InteriorFeatures": f"{NAMESPACE}.InteriorFeatures", "Inclusions": "Edm.String"}
UTC = dt.timezone.utc
# Quotes, accents, other scripts, characters outside of the basic plane, separators of URLs.
NAMES = [
    "O'Brien", "St. Mary's", "Münchner", "Peña & Söhne", "東京", "Ünal", "a+b=c?", "100% Fun",
    "Back\\slash", 'Say "hi"', "Emoji 🏠 Row", "comma, dot", "Main", "Elm", "Oak Ridge", "main",
]
REMARKS = [
    "Bright home near the park.", "Sold as-is; O'Brien's last build.", "Très charmant.", "",
    "Line one\nline two", "Tab\there", "View of 100% of the valley (really)", "Quiet street",
]


class Enums:
    """The members of the model's enumeration types, by the type's short name."""

    def __init__(self, provider: XmlEdmProvider) -> None:
        types = [e for schema in provider.get_schemas() for e in schema.enum_types]
        self._members = {e.name: [m.name for m in e.members] for e in types}

    def one(self, rng: random.Random, name: str, among: int = 6) -> str:
        return rng.choice(self._members[name][:among])

    def some(self, rng: random.Random, name: str, among: int = 8) -> list[str]:
        members = self._members[name][:among]
        return [m for m in members if rng.random() < 0.3]


def stamp(rng: random.Random, row: int, rows: int) -> dt.datetime:
    """Whole seconds, rising with the row; 350 rows in the middle share one stamp."""
    start = dt.datetime(2024, 1, 1, tzinfo=UTC)
    middle = rows // 3
    if middle <= row < middle + 350:
        row = middle
    return start + dt.timedelta(hours=row * 5 // 2, seconds=rng.randrange(7_200) * (row % 2))


def money(rng: random.Random, low: int, high: int) -> Decimal:
    cents = rng.choice([0, 0, 0, 50, 99])
    return Decimal(rng.randrange(low, high, 500)) + Decimal(cents) / 100


def maybe(rng: random.Random, value, share: float = 0.8):
    """The value, or null for one in five."""
    return value if rng.random() < share else None


def property_values(rng: random.Random, enums: Enums, row: int, rows: int) -> dict:
    tie = random.Random(rows // 3) if rows // 3 <= row < rows // 3 + 350 else rng
    changed = stamp(tie, row, rows)
    listed = changed.date() - dt.timedelta(days=rng.randrange(1, 200))
    status = rng.choice(["Active", "Active", "Pending", "Closed", "Withdrawn", "Expired"])
    price = money(rng, 90_000, 2_500_000)
    closed = status == "Closed"
    return {
        # Keys rise and fall, so that key order is not stamp order.
        "ListingKeyNumeric": 1_000_000 + (row * 7919) % 1_000_003,
        "ListingKey": str(1_000_000 + (row * 7919) % 1_000_003),
        "ListingId": f"U{row:06d}",
        "StandardStatus": status,
        "PropertyType": enums.one(rng, "PropertyType"),
        "PropertySubType": maybe(rng, enums.one(rng, "PropertySubType")),
        "ListPrice": price,
        "OriginalListPrice": maybe(rng, price + rng.randrange(0, 60_000, 5_000)),
        "ClosePrice": price - rng.randrange(0, 40_000, 1_000) if closed else None,
        "CloseDate": changed.date() if closed else None,
        "ListingContractDate": listed,
        "OnMarketDate": maybe(rng, listed),
        "DaysOnMarket": maybe(rng, rng.randrange(0, 400)),
        "BedroomsTotal": maybe(rng, rng.randrange(0, 9), 0.95),
        "BathroomsTotalInteger": rng.randrange(1, 7),
        "Stories": maybe(rng, rng.randrange(1, 4)),
        "GarageSpaces": maybe(rng, Decimal(rng.randrange(0, 8)) / 2),
        "LivingArea": Decimal(rng.randrange(400, 9_000)),
        "LotSizeAcres": Decimal(rng.randrange(1, 4_000)) / 100,
        "AssociationFee": maybe(rng, money(rng, 0, 900), 0.4),
        "TaxAnnualAmount": maybe(rng, money(rng, 500, 20_000)),
        "YearBuilt": maybe(rng, rng.randrange(1890, 2025), 0.95),
        "PhotosCount": rng.randrange(0, 60),
        "ListAgentKeyNumeric": 5_000 + rng.randrange(0, 40),
        "ListAgentFullName": rng.choice(NAMES),
        "ListOfficeKeyNumeric": 300 + rng.randrange(0, 12),
        "ListOfficeName": maybe(rng, rng.choice(NAMES) + " Realty"),
        "StreetNumber": str(rng.randrange(1, 9_999)),
        "StreetName": rng.choice(NAMES),
        "UnparsedAddress": f"{rng.randrange(1, 9999)} {rng.choice(NAMES)} Street",
        "City": enums.one(rng, "City", 25),
        "CountyOrParish": maybe(rng, enums.one(rng, "CountyOrParish")),
        "StateOrProvince": enums.one(rng, "StateOrProvince", 4),
        "PostalCode": rng.choice(["84101", "84060", "84604", "84770", "02134"]),
        "PublicRemarks": maybe(rng, rng.choice(REMARKS)),
        "PoolPrivateYN": maybe(rng, rng.random() < 0.2),
        "ViewYN": rng.random() < 0.5,
        "Appliances": maybe(rng, ",".join(enums.some(rng, "Appliances")) or None),
        "Heating": ",".join(enums.some(rng, "Heating")) or None,
        "InteriorFeatures": enums.some(rng, "InteriorFeatures"),
        "Inclusions": [n for n in NAMES[:6] if rng.random() < 0.25],
        "ModificationTimestamp": changed,
        "StatusChangeTimestamp": maybe(rng, changed - dt.timedelta(hours=rng.randrange(1, 900))),
        "OriginalEntryTimestamp": dt.datetime.combine(listed, dt.time(8, 30), UTC),
    }


def member_values(rng: random.Random, enums: Enums, row: int) -> dict:
    first, last = rng.choice(NAMES), rng.choice(NAMES)
    return {
        "MemberKeyNumeric": 5_000 + row,
        "MemberMlsId": f"M{row:05d}",
        "MemberFirstName": first,
        "MemberLastName": last,
        "MemberFullName": f"{first} {last}",
        "MemberStatus": enums.one(rng, "MemberStatus"),
        "MemberType": maybe(rng, enums.one(rng, "MemberType")),
        "OfficeKeyNumeric": 300 + row % 12,
        "MemberCity": maybe(rng, "Provo"),
        "ModificationTimestamp": dt.datetime(2024, 6, 1 + row % 28, 12, 0, 0, tzinfo=UTC),
    }


def office_values(rng: random.Random, enums: Enums, row: int) -> dict:
    return {
        "OfficeKeyNumeric": 300 + row,
        "OfficeMlsId": f"F{row:04d}",
        "OfficeName": rng.choice(NAMES) + " Realty",
        "OfficeStatus": enums.one(rng, "OfficeStatus"),
        "OfficeCity": maybe(rng, "Lehi"),
        "ModificationTimestamp": dt.datetime(2024, 5, 1, 0, 0, row, tzinfo=UTC),
    }


def declared(provider: XmlEdmProvider, entity_type: str) -> dict[str, object]:
    """The properties of an entity type, with the two collections put in."""
    types = [t for schema in provider.get_schemas() for t in schema.entity_types]
    found = {p.name: p for t in types if t.name == entity_type for p in t.properties}
    if entity_type == "Property":
        for name, element in COLLECTIONS.items():
            found[name].type, found[name].collection = element, True
    return found


def entities(provider: XmlEdmProvider, entity_type: str, rows: list[dict]) -> list[Entity]:
    properties = declared(provider, entity_type)
    made = []
    for row in rows:
        entity = Entity(type=f"{NAMESPACE}.{entity_type}")
        for name, value in row.items():
            prop = properties[name]
            enum = prop.type.startswith(NAMESPACE)
            if prop.collection:
                kind = ValueType.COLLECTION_ENUM if enum else ValueType.COLLECTION_PRIMITIVE
            else:
                kind = ValueType.ENUM if enum else ValueType.PRIMITIVE
            entity.set_property(name, value, kind, prop.type)
        made.append(entity)
    return made


def build(metadata: str, rows: int, page_size: int) -> ODataWSGIApp:
    provider = XmlEdmProvider.from_file(metadata)
    enums = Enums(provider)
    rng = random.Random(20240101)
    store = InMemoryDataStore()
    listings = [property_values(rng, enums, i, rows) for i in range(rows)]
    store.set_entities("Property", entities(provider, "Property", listings))
    members = [member_values(rng, enums, i) for i in range(40)]
    store.set_entities("Member", entities(provider, "Member", members))
    offices = [office_values(rng, enums, i) for i in range(12)]
    store.set_entities("Office", entities(provider, "Office", offices))
    odata = OData.new_instance()
    handler = odata.create_handler(odata.create_service_metadata(provider))
    handler.register(InMemoryProcessor(store, page_size=page_size))
    return ODataWSGIApp(handler)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_args) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metadata", required=True, help="the $metadata document to serve")
    parser.add_argument("--rows", type=int, default=1_500, help="entities of Property")
    parser.add_argument("--page-size", type=int, default=200)
    parser.add_argument("--port-file", required=True, help="where to write the port")
    parser.add_argument("--forever", action="store_true", help="do not stop with standard input")
    options = parser.parse_args()
    app = build(options.metadata, options.rows, options.page_size)
    server = make_server("127.0.0.1", 0, app, server_class=Server, handler_class=Quiet)
    if not options.forever:
        def stop() -> None:
            sys.stdin.buffer.read()
            os._exit(0)
        threading.Thread(target=stop, daemon=True).start()
    temporary = options.port_file + ".new"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(server.server_port))
    os.replace(temporary, options.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
