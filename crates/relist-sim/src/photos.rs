//! The photos themselves: a second server, with images that follow from their names.
//!
//! The market's Media rows name files of a host that is not there. [`Photos::alter`] is a hook
//! ([`Options::alter`](crate::Options::alter)) that has them name this server's instead; the API
//! server's gzip must be off for it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::{Framing, Reader, Request, Response, Unread};
use crate::options::{Alter, lock};

/// What the market's Media rows say.
const MARKET_PREFIX: &str = "https://assets.example.com/photos/640x480/";

/// What is wrong with a photo, or with the answer that brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhotoFault {
    /// This status.
    Status(u16),
    /// This status, the first time only.
    StatusOnce(u16),
    /// So many bytes, as a JPEG.
    Size(usize),
    /// These bytes, of this content type.
    Body(&'static str, Vec<u8>),
    /// A Content-Length of more than there is.
    LengthTooLong,
    /// A Content-Length of less than there is.
    LengthTooShort,
    /// No length, and the connection is closed in the middle.
    Cut,
    /// A redirect to there.
    Redirect(String),
    /// A wait before the answer.
    Slow(Duration),
}

/// A server of photos on loopback; it stops when dropped.
pub struct Photos {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// Answers of the API so far: each gives the URLs another signature.
    answers: AtomicU64,
    rules: Mutex<Rules>,
    seen: Mutex<Vec<Request>>,
    connections: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

#[derive(Default)]
struct Rules {
    /// By a part of the name.
    faults: Vec<(String, PhotoFault)>,
    versions: HashMap<String, u32>,
    single_use: bool,
    /// Signatures below this one have expired.
    valid_from: u64,
    used: HashSet<String>,
    delay: Duration,
}

impl Photos {
    /// Serves photos on a port that is free.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new()
            .name("sim-photos".to_owned())
            .spawn(move || accept(&listener, &accepting))?;
        Ok(Photos {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where the photos are: `http://127.0.0.1:40123/photos/`.
    pub fn base_url(&self) -> String {
        format!("http://{}/photos/", self.address)
    }

    /// A hook that has Media rows name this server's photos, each answer with a signature of its
    /// own: `http://127.0.0.1:40123/photos/NAME?sig=17`.
    pub fn alter(&self) -> Alter {
        let base = self.base_url();
        self.alter_by(move |name, answer| format!("{base}{name}?sig={answer}"))
    }

    /// The same with URLs of the caller's, by the photo's name and the number of the answer.
    pub fn alter_by(&self, url: impl Fn(&str, u64) -> String + Send + Sync + 'static) -> Alter {
        let shared = Arc::clone(&self.shared);
        Box::new(move |_, mut response| {
            let answer = shared.answers.fetch_add(1, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&response.body);
            let mut out = String::with_capacity(text.len());
            let mut pieces = text.split(MARKET_PREFIX);
            out.push_str(pieces.next().unwrap_or_default());
            for piece in pieces {
                let (name, rest) = piece.split_once('"').unwrap_or((piece, ""));
                out.push_str(&url(name, answer));
                out.push('"');
                out.push_str(rest);
            }
            response.body = out.into_bytes();
            response
        })
    }

    /// Has all photos with `part` in their name fail so.
    pub fn fault(&self, part: &str, fault: PhotoFault) {
        lock(&self.shared.rules)
            .faults
            .push((part.to_owned(), fault));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        lock(&self.shared.rules).faults.clear();
    }

    /// Whether a URL works once only: 403 after that.
    pub fn single_use(&self, on: bool) {
        lock(&self.shared.rules).single_use = on;
    }

    /// Expires the URLs given out so far: 403.
    pub fn expire(&self) {
        let answers = self.shared.answers.load(Ordering::SeqCst);
        lock(&self.shared.rules).valid_from = answers;
    }

    /// Gives the photos with this name another content.
    pub fn edit(&self, name: &str) {
        *lock(&self.shared.rules)
            .versions
            .entry(name.to_owned())
            .or_default() += 1;
    }

    /// Waits before each answer.
    pub fn delay(&self, delay: Duration) {
        lock(&self.shared.rules).delay = delay;
    }

    /// The photo of that name as it is now.
    pub fn photo(&self, name: &str) -> Vec<u8> {
        self.shared.photo(name)
    }

    /// The requests that came so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Photos {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        let connections = std::mem::take(&mut *lock(&self.shared.connections));
        for (stream, _) in &connections {
            drop(stream.shutdown(Shutdown::Both));
        }
        for (_, thread) in connections {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(twin) = stream.try_clone() else {
            continue;
        };
        let serving = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("sim-photo".to_owned())
            .spawn(move || serve(stream, &serving));
        let mut connections = lock(&shared.connections);
        connections.retain(|(_, thread)| !thread.is_finished());
        if let Ok(thread) = thread {
            connections.push((twin, thread));
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    drop(stream.set_nodelay(true));
    let Ok(twin) = stream.try_clone() else { return };
    let mut reader = Reader::new(twin);
    while !shared.stopping.load(Ordering::SeqCst) {
        let number = lock(&shared.seen).len() as u64;
        let request = match reader.next(number) {
            Ok(request) => request,
            Err(Unread::Closed) => break,
            Err(_) => {
                drop(Response::error(400, "this is not HTTP/1.1").send(&mut stream));
                break;
            }
        };
        lock(&shared.seen).push(request.clone());
        let response = shared.answer(&request);
        if response.send(&mut stream).is_err() || response.ends_connection() {
            break;
        }
    }
    drop(stream.shutdown(Shutdown::Both));
}

impl Shared {
    fn photo(&self, name: &str) -> Vec<u8> {
        let version = lock(&self.rules).versions.get(name).copied().unwrap_or(0);
        image(&format!("{name} {version}"))
    }

    fn answer(&self, request: &Request) -> Response {
        let path = request.path();
        let Some(name) = path.strip_prefix("/photos/") else {
            return Response::error(404, "no photo");
        };
        let signature = request
            .options()
            .into_iter()
            .find_map(|(key, value)| (key == "sig").then(|| value.parse().unwrap_or(0)));
        let fault = {
            let mut rules = lock(&self.rules);
            let expired = signature.is_some_and(|s: u64| s < rules.valid_from);
            if expired || rules.single_use && !rules.used.insert(request.target.clone()) {
                return Response::error(403, "the signature has expired");
            }
            let at = rules
                .faults
                .iter()
                .position(|(part, _)| name.contains(part));
            let fault = at.and_then(|at| rules.faults.get(at).cloned());
            if let (Some(at), Some((_, PhotoFault::StatusOnce(_)))) = (at, &fault) {
                rules.faults.remove(at);
            }
            fault.map(|(_, fault)| fault)
        };
        let delay = Some(lock(&self.rules).delay).filter(|d| !d.is_zero());
        let body = self.photo(name);
        let etag = format!("\"{:x}-{}\"", crc(&body), body.len());
        if request.header("if-none-match") == Some(etag.as_str()) && fault.is_none() {
            return Response::new(304, kind(&body), "");
        }
        let mut whole = Response::new(200, kind(&body), body).with_header("ETag", &etag);
        whole.delay = delay;
        match fault {
            Some(fault) => faulty(fault, whole),
            None => whole,
        }
    }
}

fn faulty(fault: PhotoFault, mut whole: Response) -> Response {
    let length = whole.body.len();
    match fault {
        PhotoFault::Status(status) | PhotoFault::StatusOnce(status) => {
            return Response::error(status, "a scripted failure");
        }
        PhotoFault::Redirect(to) => {
            return Response::new(302, "text/plain", "").with_header("Location", &to);
        }
        PhotoFault::Body(kind, body) => return Response::new(200, kind, body),
        PhotoFault::Size(bytes) => {
            let mut body = whole.body;
            let end = body.split_off(length.saturating_sub(2));
            body.resize(bytes.saturating_sub(2), 0);
            body.extend(end);
            return Response::new(200, "image/jpeg", body);
        }
        PhotoFault::LengthTooLong => whole.framing = Framing::Claimed(length as u64 + 100),
        PhotoFault::LengthTooShort => whole.framing = Framing::Claimed(length as u64 / 2),
        PhotoFault::Cut => {
            whole.framing = Framing::Close;
            whole.body.truncate(length / 2);
        }
        PhotoFault::Slow(delay) => whole.delay = Some(delay),
    }
    whole
}

fn kind(body: &[u8]) -> &'static str {
    if body.starts_with(b"\x89PNG") {
        "image/png"
    } else {
        "image/jpeg"
    }
}

/// An image that follows from a text: a PNG for one in four, else a JPEG.
fn image(text: &str) -> Vec<u8> {
    if crc(text.as_bytes()).is_multiple_of(4) {
        png(text)
    } else {
        jpeg(text)
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A grey JPEG of 8 by 8 pixels with a comment (ITU-T T.81).
fn jpeg(comment: &str) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    let mut segment = |marker: u8, body: &[u8]| {
        let length = u16::try_from(body.len() + 2).unwrap_or(u16::MAX);
        out.extend_from_slice(&[0xff, marker]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(body);
    };
    segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    segment(0xfe, comment.as_bytes());
    segment(0xdb, &[&[0][..], &[1; 64]].concat());
    segment(0xc0, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
    // One code of one bit in each table: no difference, and the end of the block.
    for class in [0x00, 0x10] {
        segment(0xc4, &[&[class, 1][..], &[0; 15], &[0]].concat());
    }
    segment(0xda, &[1, 1, 0, 0, 63, 0]);
    // The two codes, padded by ones.
    out.extend_from_slice(&[0x3f, 0xff, 0xd9]);
    out
}

/// A grey PNG of one pixel with a comment.
fn png(comment: &str) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_be_bytes());
        let from = out.len();
        out.extend_from_slice(name);
        out.extend_from_slice(body);
        let sum = crc(out.get(from..).unwrap_or_default());
        out.extend_from_slice(&sum.to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    chunk(b"tEXt", &[b"Comment\0", comment.as_bytes()].concat());
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to a Vec cannot fail.
    drop(pixels.write_all(&[0, 0x80]));
    chunk(b"IDAT", &pixels.finish().unwrap_or_default());
    chunk(b"IEND", b"");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_follow_from_their_names() {
        let (a, b) = (image("a 0"), image("a 1"));
        assert_ne!(a, b);
        assert_eq!(a, image("a 0"));
        assert!(jpeg("x").ends_with(&[0xff, 0xd9]));
        assert!(png("x").windows(4).any(|w| w == b"IEND"));
        let kinds: HashSet<&str> = (0..20).map(|n| kind(&image(&n.to_string()))).collect();
        assert_eq!(kinds.len(), 2);
    }
}
