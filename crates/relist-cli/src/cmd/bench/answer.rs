//! Whether two answers are the same, however each is spelled.

use serde_json::Value;

/// A row with its numbers by value, without members that are null; in one spelling.
fn row(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let shown = members.iter().filter(|(_, v)| !v.is_null());
            let shown = shown.filter(|(name, _)| !name.starts_with('@'));
            let mut parts: Vec<String> = shown.map(|(n, v)| format!("{n}={}", row(v))).collect();
            parts.sort_unstable();
            format!("{{{}}}", parts.join(" "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(row).collect();
            format!("[{}]", items.join(" "))
        }
        // Means are binary fractions elsewhere.
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |n| format!("{n:.9e}")),
        other => other.to_string(),
    }
}

/// The rows of an answer, in one spelling and one order.
pub(super) fn rows(answer: &[Value]) -> Vec<String> {
    let mut rows: Vec<String> = answer.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

/// The first thing that differs; `None` where the answers are the same.
pub(super) fn difference(ours: &[Value], theirs: &[Value]) -> Option<String> {
    let (a, b) = (rows(ours), rows(theirs));
    if a == b {
        return None;
    }
    if a.len() != b.len() {
        return Some(format!("{} rows, here {}", b.len(), a.len()));
    }
    let pair = a.iter().zip(&b).find(|(a, b)| a != b)?;
    let same = pair
        .0
        .bytes()
        .zip(pair.1.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let shown = |text: &str| -> String {
        text.chars()
            .skip(same.saturating_sub(30))
            .take(80)
            .collect()
    };
    Some(format!("{:?}, here {:?}", shown(pair.1), shown(pair.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spelling_and_order_are_no_difference() {
        let ours = [
            json!({"City": "Lehi", "Price": 1.50, "Gone": null}),
            json!({"Price": 2}),
        ];
        let theirs = [json!({"Price": 2.0}), json!({"Price": 1.5, "City": "Lehi"})];
        assert_eq!(difference(&ours, &theirs), None);
        let means = [json!({"Price": 2.000_000_000_000_1}), theirs[1].clone()];
        assert_eq!(difference(&ours, &means), None);
    }

    #[test]
    fn other_values_and_rows_are() {
        let ours = [json!({"Price": 2})];
        assert!(difference(&ours, &[json!({"Price": 3})]).is_some());
        assert!(difference(&ours, &[json!({"Price": "2"})]).is_some());
        assert!(difference(&ours, &[]).unwrap().contains("0 rows"));
    }
}
