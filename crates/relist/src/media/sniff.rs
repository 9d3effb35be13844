//! What a file is, by its bytes: never by what a server or a feed says of it.

use crate::store::MediaKind;

impl MediaKind {
    /// The file's extension: `jpg`.
    pub fn extension(self) -> &'static str {
        match self {
            MediaKind::Jpeg => "jpg",
            MediaKind::Png => "png",
            MediaKind::Gif => "gif",
            MediaKind::Webp => "webp",
            MediaKind::Pdf => "pdf",
        }
    }

    /// The media type: `image/jpeg`.
    pub fn media_type(self) -> &'static str {
        match self {
            MediaKind::Jpeg => "image/jpeg",
            MediaKind::Png => "image/png",
            MediaKind::Gif => "image/gif",
            MediaKind::Webp => "image/webp",
            MediaKind::Pdf => "application/pdf",
        }
    }
}

/// What the bytes are, if they are something that may be stored.
pub(super) fn sniff(bytes: &[u8]) -> Option<MediaKind> {
    const MAGIC: [(&[u8], MediaKind); 5] = [
        (b"\xff\xd8\xff", MediaKind::Jpeg),
        (b"\x89PNG\r\n\x1a\n", MediaKind::Png),
        (b"GIF87a", MediaKind::Gif),
        (b"GIF89a", MediaKind::Gif),
        (b"%PDF-", MediaKind::Pdf),
    ];
    let found = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
    if let Some((_, kind)) = found {
        return Some(*kind);
    }
    let webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    webp.then_some(MediaKind::Webp)
}

/// How far from its end a file may hold its end mark.
const TAIL: usize = 64 * 1_024;

/// Whether a file has the end that its kind has. A connection that was cut leaves none.
pub(super) fn is_whole(kind: MediaKind, bytes: &[u8]) -> bool {
    let tail = bytes
        .get(bytes.len().saturating_sub(TAIL)..)
        .unwrap_or_default();
    let ends = |mark: &[u8]| memchr::memmem::rfind(tail, mark).is_some();
    match kind {
        MediaKind::Jpeg => ends(b"\xff\xd9"),
        MediaKind::Png => ends(b"IEND"),
        MediaKind::Gif => ends(b";"),
        MediaKind::Pdf => ends(b"%%EOF"),
        MediaKind::Webp => bytes
            .get(4..8)
            .and_then(|b| b.try_into().ok())
            .is_some_and(|b| bytes.len() as u64 >= u64::from(u32::from_le_bytes(b)) + 8),
    }
}

/// What is wrong with a body, or what it is. `claimed` is its Content-Type. A length that the
/// server told wrongly cannot be seen but by the end that is missing.
pub(super) fn judge(bytes: &[u8], claimed: Option<&str>) -> Result<MediaKind, String> {
    let claimed = claimed.map(|c| c.split(';').next().unwrap_or(c).trim().to_ascii_lowercase());
    let Some(kind) = sniff(bytes) else {
        let said = claimed.map_or(String::new(), |c| format!(", sent as {c}"));
        let what = if bytes.is_empty() {
            "an empty body"
        } else if looks_like_markup(bytes) {
            "HTML, XML or SVG"
        } else {
            "no JPEG, PNG, GIF, WebP or PDF"
        };
        return Err(format!("the body is {what}{said}"));
    };
    let agrees = match claimed.as_deref() {
        None | Some("" | "application/octet-stream" | "binary/octet-stream" | "image/*") => true,
        Some("image/jpg" | "image/pjpeg") => kind == MediaKind::Jpeg,
        Some("application/x-pdf") => kind == MediaKind::Pdf,
        Some(other) => other == kind.media_type(),
    };
    if !agrees {
        return Err(format!(
            "the body is {}, sent as {}",
            kind.media_type(),
            claimed.unwrap_or_default()
        ));
    }
    if !is_whole(kind, bytes) {
        return Err(format!("the {} was cut short", kind.extension()));
    }
    Ok(kind)
}

fn looks_like_markup(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii_start().starts_with(b"<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_say_what_a_file_is() {
        let jpeg = b"\xff\xd8\xff\xe0 rest \xff\xd9";
        for (body, claimed, expect) in [
            (&jpeg[..], Some("image/jpeg"), Ok(MediaKind::Jpeg)),
            (jpeg, Some("Image/JPG; charset=x"), Ok(MediaKind::Jpeg)),
            (jpeg, None, Ok(MediaKind::Jpeg)),
            (jpeg, Some("application/octet-stream"), Ok(MediaKind::Jpeg)),
            (jpeg, Some("image/png"), Err("sent as image/png")),
            (jpeg, Some("text/html"), Err("sent as text/html")),
            (
                b"%PDF-1.4 %%EOF",
                Some("application/pdf"),
                Ok(MediaKind::Pdf),
            ),
            (b"GIF89a;", Some("image/gif"), Ok(MediaKind::Gif)),
            (b"RIFF\x04\0\0\0WEBP", None, Ok(MediaKind::Webp)),
            (b"\x89PNG\r\n\x1a\nIEND", None, Ok(MediaKind::Png)),
            (b" <html>", Some("image/jpeg"), Err("HTML")),
            (b"<svg xmlns=''/>", Some("image/svg+xml"), Err("SVG")),
            (b"\xef\xbb\xbf<?xml", None, Err("XML")),
            (b"", Some("image/jpeg"), Err("empty")),
            (b"BM..", Some("image/bmp"), Err("no JPEG")),
        ] {
            match (judge(body, claimed), expect) {
                (Ok(kind), Ok(expect)) => assert_eq!(kind, expect),
                (Err(said), Err(expect)) => assert!(said.contains(expect), "{said}"),
                (got, _) => panic!("{claimed:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_file_must_have_its_end() {
        for (whole, kind) in [
            (&b"\xff\xd8\xff\xe0...\xff\xd9"[..], MediaKind::Jpeg),
            (b"\x89PNG\r\n\x1a\n...IEND\xae\x42\x60\x82", MediaKind::Png),
            (b"GIF89a...;", MediaKind::Gif),
            (b"%PDF-1.7\n..\n%%EOF\n", MediaKind::Pdf),
            (b"RIFF\x06\0\0\0WEBPVP", MediaKind::Webp),
        ] {
            assert_eq!(judge(whole, None).unwrap(), kind);
            let cut = &whole[..whole.len() - 5.min(whole.len() - 1)];
            assert!(judge(cut, None).is_err(), "{kind:?}");
        }
    }
}
