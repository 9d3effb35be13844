//! What a fault makes of the true answer.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Fault;
use crate::http::{Ending, Framing, Request, Response};
use crate::text::http_date;

/// How long a slow answer takes, at least: longer than the limits of who wants to notice.
pub const SLOW: Duration = Duration::from_millis(400);
/// Where links lead that should not be followed: no one listens there.
const ELSEWHERE: &str = "http://127.0.0.2:9";
const HTML: &str = "<!DOCTYPE html><html><head><title>Maintenance</title></head></html>";
/// What a bomb unpacks to.
const BOMB_BYTES: usize = 9 << 20;

/// Spoils an answer; false when the fault has nothing to do with it.
pub(super) fn spoil(
    fault: Fault,
    request: &Request,
    response: &mut Response,
    before: &[u8],
) -> bool {
    use super::FaultKind as K;
    match fault.kind() {
        K::Wire => wire(fault, response),
        K::Answer => return answer(fault, response, before),
        K::Status => status(fault, request, response),
        K::Link => return link(fault, request, response),
        K::Rows => return told(fault, request, response),
        K::Metadata => return false,
    }
    true
}

fn wire(fault: Fault, response: &mut Response) {
    let half = response.body.len() / 2;
    // A head is less than this, a page is more.
    let in_head = 40;
    match fault {
        Fault::Closed => response.raw = Some(Vec::new()),
        Fault::Refused | Fault::Reset => {
            response.raw = Some(Vec::new());
            response.ending = match fault {
                Fault::Refused => Ending::Down,
                _ => Ending::Reset,
            };
        }
        Fault::ResetInBody => {
            response.cut_after = Some(400 + half);
            response.ending = Ending::Reset;
        }
        Fault::Stall => response.delay = Some(SLOW),
        Fault::StallInBody => response.pace = Some((400 + half, SLOW)),
        Fault::SlowBody => {
            let pieces = 16;
            let pause = SLOW * 2 / pieces;
            response.pace = Some(((400 + half * 2) / 16, pause));
        }
        Fault::TruncatedLength => {
            response.framing = Framing::Claimed(response.body.len() as u64);
            response.body.truncate(half);
        }
        Fault::TruncatedChunked => {
            response.framing = Framing::ChunkedCut;
            response.body.truncate(half);
        }
        Fault::TruncatedClose => {
            response.framing = Framing::Close;
            response.body.truncate(half);
        }
        Fault::TruncatedGzip => {
            let mut packed = gzip(&[&response.body]);
            packed.truncate(packed.len() / 2);
            replace_packed(response, packed);
        }
        Fault::TruncatedHead => response.cut_after = Some(in_head),
        Fault::NotGzip => replace_packed(response, response.body.clone()),
        Fault::GzipBomb => {
            let spaces = vec![b' '; BOMB_BYTES];
            let packed = gzip(&[&response.body, &spaces]);
            replace_packed(response, packed);
        }
        Fault::HeaderFlood => {
            let text = "x".repeat(1 << 20);
            response.headers.push(("X-Flood".to_owned(), text));
        }
        _ => response.raw = Some(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    }
}

fn gzip(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for part in parts {
        // Writing to a Vec cannot fail.
        let _ = encoder.write_all(part);
    }
    encoder.finish().unwrap_or_default()
}

fn replace_packed(response: &mut Response, packed: Vec<u8>) {
    response.body = packed;
    let header = ("Content-Encoding".to_owned(), "gzip".to_owned());
    response.headers.push(header);
}

/// A page as a tree; `None` when the answer is no page.
fn page_of(response: &Response) -> Option<Value> {
    let page: Value = serde_json::from_slice(&response.body).ok()?;
    page.get("value")?.is_array().then_some(page)
}

fn rows_of(page: &mut Value) -> Option<&mut Vec<Value>> {
    page.get_mut("value")?.as_array_mut()
}

fn without_link(page: &mut Value) {
    if let Some(page) = page.as_object_mut() {
        page.remove("@odata.nextLink");
    }
}

/// Sets a member of an object.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn answer(fault: Fault, response: &mut Response, before: &[u8]) -> bool {
    if let Some(body) = other_body(fault) {
        if let Fault::Html | Fault::Xml = fault {
            let kind = match fault {
                Fault::Html => "text/html",
                _ => "application/atom+xml",
            };
            response.headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        }
        response.body = body.as_bytes().to_vec();
        return true;
    }
    if let Some(body) = damaged(fault, &response.body, before) {
        response.body = body;
        return true;
    }
    let Some(mut page) = page_of(response) else {
        return false;
    };
    let Some(rows) = rows_of(&mut page) else {
        return false;
    };
    match fault {
        Fault::FewerRows => rows.truncate(rows.len() / 2),
        Fault::OneRowLess => rows.truncate(rows.len().saturating_sub(1)),
        Fault::NoRows => rows.clear(),
        Fault::DuplicateRows => *rows = rows.iter().flat_map(|r| [r.clone(), r.clone()]).collect(),
        Fault::ErrorAfterRows => {
            rows.truncate(rows.len() / 2);
            let error = json!({"code": "500", "message": "timed out while reading"});
            set(&mut page, "error", error);
        }
        Fault::ValueObject => {
            let row = rows.first().cloned().unwrap_or_else(|| json!({}));
            set(&mut page, "value", row);
        }
        Fault::ValueString => {
            let text = Value::Array(rows.clone()).to_string();
            set(&mut page, "value", json!(text));
        }
        Fault::BareArray => page = Value::Array(std::mem::take(rows)),
        Fault::RowsAreNumbers => rows.iter_mut().for_each(|row| *row = json!(1)),
        Fault::RowsAreNull => rows.iter_mut().for_each(|row| *row = Value::Null),
        Fault::LinkLost => {}
        _ => spoil_keys(fault, rows),
    }
    if let Fault::FewerRows
    | Fault::OneRowLess
    | Fault::NoRows
    | Fault::LinkLost
    | Fault::ErrorAfterRows = fault
    {
        without_link(&mut page);
    }
    response.body = page.to_string().into_bytes();
    true
}

/// Bodies that have nothing of the page.
fn other_body(fault: Fault) -> Option<&'static str> {
    Some(match fault {
        Fault::Html => HTML,
        Fault::Xml => "<?xml version=\"1.0\"?><feed xmlns=\"http://www.w3.org/2005/Atom\"/>",
        Fault::ErrorBody => r#"{"error":{"code":"500","message":"the database is away"}}"#,
        Fault::Empty => "",
        Fault::NoValue => r#"{"@odata.context":"$metadata#Property","@odata.count":0}"#,
        Fault::ValueNull => r#"{"@odata.context":"$metadata#Property","value":null}"#,
        Fault::BareNull => "null",
        _ => return None,
    })
}

/// Bodies that are the page, or the one before, with wrong bytes.
fn damaged(fault: Fault, body: &[u8], before: &[u8]) -> Option<Vec<u8>> {
    let replace = |from: &[u8], to: &[u8]| {
        let at = body.windows(from.len()).position(|w| w == from)?;
        let mut out = body.get(..at)?.to_vec();
        out.extend_from_slice(to);
        out.extend_from_slice(body.get(at + from.len()..)?);
        Some(out)
    };
    match fault {
        Fault::StalePage => (!before.is_empty()).then(|| before.to_vec()),
        Fault::ByteOrderMark => Some([b"\xef\xbb\xbf", body].concat()),
        Fault::HalfJson => body.get(..body.len() / 2).map(<[u8]>::to_vec),
        Fault::TextAfterJson => Some([body, b"\nWarning: division by zero"].concat()),
        Fault::InvalidUtf8 => replace(b"Active", b"Act\xffve"),
        Fault::NotANumber => replace(b"\"ListPrice\":", b"\"ListPrice\":NaN,\"x\":"),
        Fault::DeepNesting => {
            let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
            replace(
                b"\"ListPrice\":",
                format!("\"Deep\":{deep},\"ListPrice\":").as_bytes(),
            )
        }
        _ => None,
    }
}

fn spoil_keys(fault: Fault, rows: &mut [Value]) {
    const KEYS: [&str; 2] = ["ListingKeyNumeric", "primary_key"];
    let one = rows.len() / 2;
    for (at, row) in rows.iter_mut().enumerate() {
        let Some(row) = row.as_object_mut() else {
            continue;
        };
        for key in KEYS {
            let Some(value) = row.get(key).cloned() else {
                continue;
            };
            match fault {
                Fault::KeysMissing => drop(row.remove(key)),
                Fault::OneKeyMissing if at == one => drop(row.remove(key)),
                Fault::KeysNull => drop(row.insert(key.to_owned(), Value::Null)),
                Fault::KeysAreObjects => drop(row.insert(key.to_owned(), json!({"id": value}))),
                Fault::OtherResource => {
                    *row = serde_json::Map::new();
                    row.insert("MemberKeyNumeric".to_owned(), value);
                    row.insert("MemberFullName".to_owned(), json!("Ada"));
                }
                _ => {}
            }
        }
    }
}

fn status(fault: Fault, request: &Request, response: &mut Response) {
    let now = response.headers.iter().find(|(name, _)| name == "Date");
    let date = now.cloned();
    let error = |status| Response::error(status, "so it is");
    let retry = |value: &str| error(429).with_header("Retry-After", value);
    *response = match fault {
        Fault::Status204 => Response::new(204, "application/json", ""),
        Fault::Status301 => error(301).with_header("Location", &format!("{}&x=1", request.target)),
        Fault::RedirectElsewhere => {
            error(302).with_header("Location", &format!("{ELSEWHERE}{}", request.target))
        }
        Fault::Status404Html => Response::new(404, "text/html", HTML),
        Fault::Status500Html => Response::new(500, "text/html", HTML),
        Fault::RightPage500 => Response {
            status: 500,
            ..response.clone()
        },
        Fault::RetryAfterSeconds => retry("30"),
        Fault::RetryAfterDate => retry(&http_date(4_070_908_800)),
        Fault::RetryAfterPast => retry(&http_date(0)),
        Fault::RetryAfterGarbage => retry("in a while"),
        Fault::RetryAfterHuge => retry("99999999999"),
        Fault::Status503 => error(503).with_header("Retry-After", "5"),
        // The others are named after their status.
        _ => error(fault.name().parse().unwrap_or(500)),
    };
    response.headers.extend(date);
}

fn link(fault: Fault, request: &Request, response: &mut Response) -> bool {
    if let Fault::LinkExpired400 | Fault::LinkExpired410 = fault {
        if !request.target.contains("skip") {
            return false;
        }
        let status = if fault == Fault::LinkExpired400 {
            400
        } else {
            410
        };
        *response = Response::error(status, "the continuation token has expired");
        return true;
    }
    let Some(mut page) = page_of(response) else {
        return false;
    };
    let Some(link) = page.get("@odata.nextLink").and_then(Value::as_str) else {
        return false;
    };
    let below = link
        .split_once("//")
        .and_then(|(_, rest)| rest.split_once('/'));
    let (host, below) = below.unwrap_or(("", link));
    let tail = below.rsplit_once('/').map_or(below, |(_, tail)| tail);
    let link = match fault {
        Fault::LinkLoops if request.target.contains("skip") => {
            json!(format!("http://{host}{}", request.target))
        }
        Fault::LinkElsewhere => json!(format!("{ELSEWHERE}/{below}")),
        Fault::LinkDisguised => json!(format!("http://{host}@127.0.0.2:9/{below}")),
        Fault::LinkGarbage => json!("http://[:::1/%%%"),
        Fault::LinkEmpty => json!(""),
        Fault::LinkNumber => json!(7),
        Fault::LinkRelative => json!(tail),
        Fault::LinkEncoded => {
            let encoded = tail
                .replace('$', "%24")
                .replace('\'', "%27")
                .replace(',', "%2C");
            json!(link.replace(tail, &encoded))
        }
        _ => return false,
    };
    set(&mut page, "@odata.nextLink", link);
    response.body = page.to_string().into_bytes();
    true
}

/// What is told of rows and of the time.
fn told(fault: Fault, request: &Request, response: &mut Response) -> bool {
    if let Fault::ClockAhead | Fault::ClockBehind | Fault::NoDate = fault {
        return tell_time(fault, response);
    }
    let Some(mut page) = page_of(response) else {
        return false;
    };
    let count = page.get("@odata.count").and_then(Value::as_u64);
    let Some(rows) = rows_of(&mut page) else {
        return false;
    };
    match fault {
        // Who asks for single keys is told the same.
        Fault::RowsWithheld => rows.retain(|row| {
            let key = row.get("ListingKeyNumeric").and_then(Value::as_i64);
            key.is_none_or(|key| key % 3 != 0)
        }),
        Fault::FieldWithheld => rows.iter_mut().for_each(|row| {
            row.as_object_mut().map(|row| row.remove("ListPrice"));
        }),
        Fault::TypeDrift => {
            for (at, row) in rows.iter_mut().enumerate() {
                if let Some(price) = row.get("ListPrice").and_then(Value::as_i64) {
                    let drifted = match at % 2 {
                        0 => format!("{price}.0"),
                        _ => price.to_string(),
                    };
                    set(row, "ListPrice", json!(drifted));
                }
            }
        }
        Fault::TopIsTotal if request.target.contains("top=") => without_link(&mut page),
        Fault::CountTooHigh | Fault::CountTooLow | Fault::CountGarbage => {
            let Some(count) = count else { return false };
            let told = match fault {
                Fault::CountTooHigh => json!(count + 100),
                Fault::CountTooLow => json!(count / 2),
                _ => json!("many"),
            };
            set(&mut page, "@odata.count", told);
        }
        _ => return false,
    }
    response.body = page.to_string().into_bytes();
    true
}

fn tell_time(fault: Fault, response: &mut Response) -> bool {
    let hour = if fault == Fault::ClockAhead {
        3_600
    } else {
        -3_600
    };
    let Some(at) = response.headers.iter().position(|(name, _)| name == "Date") else {
        return false;
    };
    let (_, date) = response.headers.remove(at);
    if fault != Fault::NoDate
        && let Some(seconds) = crate::text::parse_http_date(&date)
    {
        let skewed = seconds.saturating_add_signed(hour);
        response
            .headers
            .push(("Date".to_owned(), http_date(skewed)));
    }
    true
}

/// Spoils `$metadata`.
pub(super) fn spoil_metadata(fault: Fault, response: &mut Response) {
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let price = "Name=\"ListPrice\"";
    let body = match fault {
        Fault::MetadataTruncated => text.get(..text.len() / 2).unwrap_or_default().to_owned(),
        Fault::MetadataRenamed => text.replace(price, "Name=\"AskingPrice\""),
        Fault::MetadataRetyped => match text.split_once(price) {
            Some((head, tail)) => {
                let tail = tail.replacen("Edm.Int64", "Edm.String", 1);
                format!(
                    "{head}{price}{}",
                    tail.replacen("Edm.Decimal", "Edm.String", 1)
                )
            }
            None => text,
        },
        Fault::MetadataWithoutField => {
            let line = text.split_inclusive('>').filter(|tag| !tag.contains(price));
            line.collect()
        }
        Fault::MetadataHtml => {
            *response = Response::new(200, "text/html", HTML);
            return;
        }
        _ => {
            *response = Response::error(500, "so it is");
            return;
        }
    };
    response.body = body.into_bytes();
}
