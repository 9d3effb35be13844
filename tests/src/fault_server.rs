//! An HTTP server that lies on purpose.
//!
//! Servers built on a library cannot send a body that is shorter than its `Content-Length`, a
//! chunk that never comes or half a gzip stream. This one writes bytes to a socket as a script
//! says, and keeps what it was asked.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use relist_feed::Clock;

/// One request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Received {
    /// `GET`.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case, and values, as sent.
    pub headers: Vec<(String, String)>,
}

impl Received {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name)?;
        Some(&found.1)
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By `Content-Length`.
    Length,
    /// By chunks of so many bytes.
    Chunked(usize),
    /// By the end of the connection.
    Close,
}

/// What happens when all that is to be sent was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Reset,
    Stall,
    Repeat,
}

/// One scripted answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
    cut: Option<usize>,
    ending: Ending,
    pace: Option<(usize, Duration)>,
    silent: bool,
}

impl Reply {
    /// A status with no body.
    pub fn status(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::Length,
            cut: None,
            ending: Ending::Close,
            pace: None,
            silent: false,
        }
    }

    /// A 200 with a JSON body.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Reply::status(200)
            .header("Content-Type", "application/json")
            .body(body)
    }

    /// Nothing at all: the connection stays open and silent.
    pub fn silence() -> Self {
        Reply {
            silent: true,
            ending: Ending::Stall,
            ..Reply::status(200)
        }
    }

    /// The connection is reset without an answer.
    pub fn reset() -> Self {
        Reply {
            silent: true,
            ending: Ending::Reset,
            ..Reply::status(200)
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Compresses the body.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.body = gzip(&self.body);
        self.header("Content-Encoding", "gzip")
    }

    /// Sets the framing.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Ends the connection after so many bytes of the framed body.
    #[must_use]
    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// Ends the connection by a reset rather than in order.
    #[must_use]
    pub fn then_reset(mut self) -> Self {
        self.ending = Ending::Reset;
        self
    }

    /// Falls silent after the last byte, the connection open.
    #[must_use]
    pub fn then_stall(mut self) -> Self {
        self.ending = Ending::Stall;
        self
    }

    /// Sends the body again and again, without end; not for `Content-Length`.
    #[must_use]
    pub fn endless(mut self) -> Self {
        assert_ne!(
            self.framing,
            Framing::Length,
            "an endless body has no length"
        );
        self.ending = Ending::Repeat;
        self
    }

    /// Sends the body so many bytes at a time, with a pause after each.
    #[must_use]
    pub fn pace(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some((bytes, pause));
        self
    }

    /// Bytes of the body as framed; the offsets at which [`Reply::cut`] can cut.
    pub fn framed_len(&self) -> usize {
        self.framed().len()
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", self.status);
        match self.framing {
            Framing::Length => {
                let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
            }
            Framing::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::Close => {}
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head
    }

    fn framed(&self) -> Vec<u8> {
        let Framing::Chunked(size) = self.framing else {
            return self.body.clone();
        };
        let mut out = Vec::new();
        for chunk in self.body.chunks(size) {
            out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            out.extend(chunk);
            out.extend(b"\r\n");
        }
        if self.ending != Ending::Repeat {
            out.extend(b"0\r\n\r\n");
        }
        out
    }
}

/// A server on a loopback port that answers by script; it ends when dropped.
#[derive(Debug)]
pub struct FaultServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

type Script = dyn Fn(usize, &Received) -> Reply + Send + Sync;

impl FaultServer {
    /// Starts a server that asks `script` for each answer; it gets the request's number, from 0.
    pub fn start(script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let mut server = FaultServer {
            address: listener.local_addr().expect("its address"),
            received: Arc::default(),
            connections: Arc::default(),
            over: Arc::default(),
            acceptor: None,
        };
        let script: Arc<Script> = Arc::new(script);
        let received = Arc::clone(&server.received);
        let connections = Arc::clone(&server.connections);
        let over = Arc::clone(&server.over);
        server.acceptor = Some(thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, received) = (Arc::clone(&script), Arc::clone(&received));
                let over = Arc::clone(&over);
                thread::spawn(move || serve(stream, &*script, &received, &over));
            }
        }));
        server
    }

    /// Starts a server that answers with these in turn; the last one repeats.
    pub fn replies(replies: Vec<Reply>) -> Self {
        assert!(!replies.is_empty(), "a script has a reply");
        FaultServer::start(move |at, _| replies[at.min(replies.len() - 1)].clone())
    }

    /// A service root on this server.
    pub fn root(&self) -> String {
        format!("http://{}/odata", self.address)
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    /// The connections so far, with or without a request.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// Answers one request. A client that hangs up early is no fault of the test's.
fn serve(
    mut stream: TcpStream,
    script: &Script,
    received: &Mutex<Vec<Received>>,
    over: &AtomicBool,
) {
    drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    let number = {
        let mut all = received.lock().expect("no panic");
        all.push(request.clone());
        all.len() - 1
    };
    let reply = script(number, &request);
    if reply.ending != Ending::Reset {
        // The last byte of the request. Linux answers with a reset when a socket is closed while
        // there is something left to read, which is how a reset is made.
        drop(stream.read(&mut [0]));
    }
    drop(answer(&mut stream, &reply, over));
}

fn answer(stream: &mut TcpStream, reply: &Reply, over: &AtomicBool) -> std::io::Result<()> {
    if !reply.silent {
        stream.write_all(reply.head().as_bytes())?;
        let framed = reply.framed();
        let end = reply.cut.unwrap_or(framed.len()).min(framed.len());
        let (size, pause) = reply.pace.unwrap_or((end.max(1), Duration::ZERO));
        loop {
            for piece in framed[..end].chunks(size) {
                stream.write_all(piece)?;
                stream.flush()?;
                thread::sleep(pause);
            }
            if reply.ending != Ending::Repeat || over.load(Ordering::SeqCst) {
                break;
            }
        }
    }
    if reply.ending == Ending::Reset {
        // What was sent should be read before the reset throws it away.
        thread::sleep(Duration::from_millis(20));
    }
    while reply.ending == Ending::Stall && !over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Reads a request but for its last byte.
fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r") {
        if stream.read(&mut byte).ok()? == 0 || head.len() > 1 << 20 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let mut start = lines.next()?.split(' ');
    Some(Received {
        method: start.next()?.to_owned(),
        target: start.next()?.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
    })
}

/// Compresses with gzip.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

/// A gzip stream of so many MiB of spaces, made without compressing that much: one compressed MiB
/// that refers to nothing before it, repeated. Its checksum is not right, as none is reached.
pub fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    let spaces = vec![b' '; 1 << 20];
    let mut block = Vec::with_capacity(1 << 16);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(&spaces, &mut block, flate2::FlushCompress::Full)
        .expect("memory");
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for _ in 0..mebibytes {
        out.extend(&block);
    }
    // An empty last block, then checksum and length.
    out.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out
}

/// A clock whose waits take no time and are kept.
#[derive(Debug)]
pub struct VirtualClock {
    wall: SystemTime,
    waits: Mutex<Vec<Duration>>,
    /// Set during the wait of this number, from 0: how a user's interrupt is tried.
    stop_at: Option<usize>,
}

impl VirtualClock {
    /// A clock that starts at this calendar time.
    pub fn at(wall: SystemTime) -> Arc<Self> {
        Arc::new(VirtualClock {
            wall,
            waits: Mutex::default(),
            stop_at: None,
        })
    }

    /// A clock that sets the stop flag during a wait.
    pub fn stopping_at(wait: usize) -> Arc<Self> {
        Arc::new(VirtualClock {
            wall: SystemTime::UNIX_EPOCH,
            waits: Mutex::default(),
            stop_at: Some(wait),
        })
    }

    /// The waits so far.
    pub fn waits(&self) -> Vec<Duration> {
        self.waits.lock().expect("no panic").clone()
    }
}

impl Clock for VirtualClock {
    fn elapsed(&self) -> Duration {
        self.waits().iter().sum()
    }

    fn now(&self) -> SystemTime {
        self.wall + self.elapsed()
    }

    fn sleep(&self, time: Duration, stop: &AtomicBool) {
        let mut waits = self.waits.lock().expect("no panic");
        if self.stop_at == Some(waits.len()) {
            stop.store(true, Ordering::SeqCst);
        }
        waits.push(time);
    }
}
