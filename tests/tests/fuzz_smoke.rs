//! The fuzz targets on some damaged inputs: what a longer run does, in seconds.
//!
//! The inputs are the same in every run: seeds with bytes changed, cut, doubled and spliced.

#[expect(unreachable_pub, reason = "it is the library of another package")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use relist_tests::data;

const ROUNDS: usize = 40_000;

/// xorshift64*: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % limit.max(1)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = at + self.below(bytes.len() + 1 - at).min(24);
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                3 => bytes.truncate(at),
                4 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    bytes.splice(at..end, other[from..].iter().copied());
                }
                _ => drop(bytes.splice(at..at, words[self.below(words.len())].bytes())),
            }
        }
    }
}

/// Tries a target on its seeds and on damaged ones; `words` are what the damage may insert.
fn smoke(name: &str, target: fn(&[u8]), words: &[&str]) {
    smoke_rounds(ROUNDS, name, target, words);
}

fn smoke_rounds(rounds: usize, name: &str, target: fn(&[u8]), words: &[&str]) {
    let directory = data::root().join("fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|f| f.unwrap())
        .collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let seeds: Vec<_> = files
        .iter()
        .map(|f| std::fs::read(f.path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{}", directory.display());
    for seed in &seeds {
        target(seed);
    }
    let mut random = Random(0x5EED);
    for _ in 0..rounds {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        random.damage(&mut bytes, &seeds, words);
        target(&bytes);
    }
}

#[test]
fn edmx() {
    let words = [
        "<!DOCTYPE x>",
        "&#x10FFFF;",
        "&e;",
        "<a>",
        "</",
        "]]>",
        "é",
        "Edm.Stream",
        "\0",
    ];
    smoke("edmx", targets::edmx, &words);
}

#[test]
fn filter() {
    let words = [
        " and ", " or ", "not ", "(", ")", "'", "''", ",", "/", "$it", " eq ", "-", "é🏠",
    ];
    smoke("filter", targets::filter, &words);
}

#[test]
fn apply() {
    let words = [
        "groupby(",
        "aggregate(",
        "filter(",
        "/",
        "$count",
        " as ",
        " with ",
        "sum",
        ")",
        "'",
        ",",
        "topcount(",
        "é🏠",
    ];
    smoke("apply", targets::apply, &words);
}

#[test]
fn record_body() {
    let words = [
        "\0",
        "\u{1}",
        "\u{9}",
        "\u{b}",
        "\u{c}",
        "1e400",
        "{\"a\":1}",
        "ÿ",
    ];
    smoke("record_body", targets::record_body, &words);
}

#[test]
fn column_segment() {
    let words = [
        "\0",
        "\u{1}",
        "\u{2}",
        "\u{3}",
        "\u{4}",
        "\u{9}\u{4}Orem",
        "ÿ",
    ];
    smoke("column_segment", targets::column_segment, &words);
}

/// Each is a store of its own, and many commits.
#[test]
fn ops() {
    let words = [
        "\0\u{1}",
        "\u{4}\u{1}",
        "\u{5}\u{1}",
        "\u{6}\0",
        "\u{7}\0",
        "\u{8}\u{2}",
    ];
    smoke_rounds(40, "ops", targets::ops::ops, &words);
}

#[test]
fn decode_page() {
    let words = [
        "{", "}", "[", "]", "\"", "\\u0000", "\\ud800", ",", ":", "null", "1e999", "\n",
    ];
    smoke("decode_page", targets::decode_page, &words);
}

#[test]
fn apply_page() {
    let words = [
        "{", "}", "[", "]", "\"", "\\u0000", "a", ",", ":", "null", "1e999", "0", "-",
    ];
    smoke("apply_page", targets::apply_page, &words);
}

#[test]
fn keycode() {
    smoke(
        "keycode",
        targets::keycode,
        &["\0", "\u{1}", "\u{2}", "\u{7f}", "ÿ"],
    );
}

#[test]
fn literals() {
    let words = ["0", "9", "-", ".", "e", "E+", ":", "T", "Z", "é"];
    smoke("literals", targets::literals, &words);
}
