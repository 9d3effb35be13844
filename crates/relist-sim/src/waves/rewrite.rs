//! The same page in other bytes: what servers do to records in which nothing changed.
//!
//! Four things in turn, page by page: numbers get other lexemes (`450000.0` -> `450000.00`), the
//! members another order, tokens space between them, and each record an etag of its own. Every
//! record's bytes differ from those of before, and no field's value does.

/// Rewrites the page of that number.
pub(super) fn rewrite(page: &[u8], number: usize) -> Vec<u8> {
    match number % 4 {
        0 => numbers(page),
        1 => members(page, number / 4),
        2 => spaces(page),
        _ => etags(page, number),
    }
}

/// Tells, byte by byte, whether it stands in a string, its quotes included.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    fn holds(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
            return true;
        }
        match byte {
            b'\\' if self.inside => {
                self.escaped = true;
                true
            }
            b'"' => {
                self.inside = !self.inside;
                true
            }
            _ => self.inside,
        }
    }
}

/// Gives every number with a point another zero. Coordinates stand deeper and stay as they are:
/// an array is one value, and its text is what is compared.
fn numbers(page: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 64);
    let mut strings = Strings::default();
    let (mut depth, mut point) = (0_i32, false);
    for byte in page {
        if !strings.holds(*byte) {
            match byte {
                b'{' | b'[' => depth += 1,
                b'.' => point = true,
                b'0'..=b'9' => {}
                _ => {
                    if point && depth == 3 {
                        out.push(b'0');
                    }
                    point = false;
                    depth -= i32::from(matches!(byte, b'}' | b']'));
                }
            }
        }
        out.push(*byte);
    }
    out
}

/// Puts a space behind every colon and comma.
fn spaces(page: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 16);
    let mut strings = Strings::default();
    let mut depth = 0_i32;
    for byte in page {
        out.push(*byte);
        if !strings.holds(*byte) {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b':' | b',' if depth == 3 => out.push(b' '),
                _ => {}
            }
        }
    }
    out
}

/// Gives every record an etag.
fn etags(page: &[u8], number: usize) -> Vec<u8> {
    each_record(page, |record, at, out| {
        let etag = format!("{{\"@odata.etag\":\"W/\\\"{number}-{at}\\\"\",");
        out.extend_from_slice(etag.as_bytes());
        out.extend_from_slice(record);
    })
}

/// Puts the first members of every record behind the others.
fn members(page: &[u8], turn: usize) -> Vec<u8> {
    each_record(page, |record, _, out| {
        let ends: Vec<usize> = ends_of_members(record).collect();
        out.push(b'{');
        let Some(cut) = ends.get(turn % ends.len().max(1)) else {
            out.extend_from_slice(record);
            return;
        };
        let (first, rest) = record.split_at(*cut);
        let (rest, closing) = rest.split_at(rest.len().saturating_sub(1));
        out.extend_from_slice(rest.get(1..).unwrap_or_default());
        out.push(b',');
        out.extend_from_slice(first);
        out.extend_from_slice(closing);
    })
}

/// The places of the commas between the members of a record.
fn ends_of_members(record: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut strings = Strings::default();
    let mut depth = 0_i32;
    record.iter().enumerate().filter_map(move |(at, byte)| {
        if strings.holds(*byte) {
            return None;
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        (*byte == b',' && depth == 0).then_some(at)
    })
}

/// Copies a page, with what `write` makes of each record: it is given the record behind its
/// opening brace, with the closing one.
fn each_record(page: &[u8], mut write: impl FnMut(&[u8], usize, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 32);
    let mut strings = Strings::default();
    let (mut depth, mut start, mut records) = (0_i32, 0, 0);
    for (at, byte) in page.iter().enumerate() {
        let text = strings.holds(*byte);
        match byte {
            b'{' | b'[' if !text => {
                depth += 1;
                if depth == 3 {
                    start = at + 1;
                    continue;
                }
            }
            b'}' | b']' if !text => {
                depth -= 1;
                if depth == 2 {
                    write(page.get(start..=at).unwrap_or_default(), records, &mut out);
                    records += 1;
                    continue;
                }
            }
            _ => {}
        }
        if depth < 3 {
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const PAGE: &[u8] = br#"{"@odata.context":"$metadata#Property","value":[{"Key":1,
"ListPrice":450000.0,"Remarks":"a \"b\", {1.5}: [2]","Geo":{"type":"Point","coordinates":
[-111.5,40.25]},"Lot":0.5},{"Key":2,"ListPrice":1.5,"Remarks":"","Geo":null,"Lot":null}]}"#;

    #[test]
    fn other_bytes_are_the_same_records() {
        let before: Value = serde_json::from_slice(PAGE).unwrap();
        let raw = |page: &[u8]| {
            let mut out = Vec::new();
            each_record(page, |record, _, _| out.push(record.to_vec()));
            out
        };
        for number in 0..24 {
            let page = rewrite(PAGE, number);
            let mut after: Value = serde_json::from_slice(&page).unwrap();
            for record in after["value"].as_array_mut().unwrap() {
                let etag = record.as_object_mut().unwrap().remove("@odata.etag");
                assert_eq!(etag.is_some(), number % 4 == 3);
            }
            assert_eq!(before, after, "page {number}");
            let (old, new) = (raw(PAGE), raw(&page));
            assert_eq!(old.len(), new.len());
            assert!(old.iter().zip(&new).all(|(a, b)| a != b), "page {number}");
        }
    }
}
