//! The market as a RESO Web API over HTTP/1.1, on loopback.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::backend::Backend;
use crate::http::{Ending, Reader, Request, Response, Unread};
use crate::options::{Options, lock};
use crate::service::Service;

/// How many requests are remembered.
const REMEMBERED: usize = 100_000;

/// A running server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    service: Service,
    rows: Arc<Mutex<dyn Backend>>,
    stopping: AtomicBool,
    /// Whether nothing is accepted for the time being.
    down: AtomicBool,
    served: AtomicU64,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

impl Server {
    /// Serves the rows on loopback.
    pub fn start<B: Backend + 'static>(rows: Arc<Mutex<B>>, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let service = Service::new(options, address, lock(&rows).schema());
        let shared = Arc::new(Shared {
            address,
            service,
            rows,
            stopping: AtomicBool::new(false),
            down: AtomicBool::new(false),
            served: AtomicU64::new(0),
            requests: Mutex::new(Vec::new()),
            connections: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new()
            .name("sim-accept".to_owned())
            .spawn(move || accept(listener, &accepting))?;
        Ok(Server {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// The service root: `http://127.0.0.1:40123/reso/odata`.
    pub fn base_url(&self) -> String {
        self.shared.service.base_url().to_owned()
    }

    /// The token that requests must carry.
    pub fn token(&self) -> &str {
        self.shared.service.token()
    }

    /// Accepts connections again after [`Ending::Down`], on the same port; returns when it does.
    pub fn up(&self) {
        self.shared.down.store(false, Ordering::SeqCst);
        for _ in 0..1_000 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many requests came so far.
    pub fn request_count(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// The requests that came so far, in order; the first 100,000 of them.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// The requests that came so far as `GET /target`, percent-decoded.
    pub fn request_lines(&self) -> Vec<String> {
        let requests = lock(&self.shared.requests);
        requests.iter().map(crate::http::Request::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor; when it cannot be reached it is gone already.
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

fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listening = Some(listener);
    while !shared.stopping.load(Ordering::SeqCst) {
        if shared.down.load(Ordering::SeqCst) {
            // Whoever connects now is refused.
            listening = None;
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let Some(listener) = &listening else {
            listening = TcpListener::bind(address).ok();
            continue;
        };
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        if shared.down.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(twin) = stream.try_clone() else {
            continue;
        };
        let serving = Arc::clone(shared);
        // Locked before the thread runs: it may have to take its own twin out again.
        let mut connections = lock(&shared.connections);
        connections.retain(|(_, thread)| !thread.is_finished());
        let thread = std::thread::Builder::new()
            .name("sim-serve".to_owned())
            .spawn(move || serve(stream, &serving));
        if let Ok(thread) = thread {
            connections.push((twin, thread));
        }
    }
}

/// Answers the requests of one connection.
fn serve(mut stream: TcpStream, shared: &Shared) {
    // Without this, small answers would wait for an acknowledgement.
    drop(stream.set_nodelay(true));
    let Ok(twin) = stream.try_clone() else { return };
    let mut reader = Reader::new(twin);
    while !shared.stopping.load(Ordering::SeqCst) {
        let request = match reader.next(shared.served.load(Ordering::SeqCst)) {
            Ok(request) => request,
            Err(Unread::Closed) => break,
            Err(unread) => {
                let (status, message) = match unread {
                    Unread::TooLarge => (431, "the request is too large"),
                    _ => (400, "this is not HTTP/1.1"),
                };
                drop(Response::error(status, message).send(&mut stream));
                break;
            }
        };
        let request = shared.remember(request);
        let response = shared.service.respond(&request, &shared.rows);
        let close = request
            .header("connection")
            .is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let sent = response.send(&mut stream);
        match response.ending {
            Ending::Keep => {}
            Ending::Down => {
                shared.down.store(true, Ordering::SeqCst);
                // Wakes the acceptor, which closes the listener.
                drop(TcpStream::connect(shared.address));
            }
            Ending::Reset => {
                drop(reader);
                return shared.reset(&stream);
            }
        }
        if sent.is_err() || close || response.ends_connection() {
            break;
        }
    }
    // A twin of the stream is held for stopping: only a shutdown ends the connection.
    drop(stream.shutdown(Shutdown::Both));
}

impl Shared {
    /// Resets a connection: with no time to linger, the close of its last handle sends a RST.
    fn reset(&self, stream: &TcpStream) {
        // What was sent should be read before the reset throws it away.
        std::thread::sleep(Duration::from_millis(5));
        drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        if let Ok(peer) = stream.peer_addr() {
            let own = |twin: &TcpStream| twin.peer_addr().is_ok_and(|at| at == peer);
            lock(&self.connections).retain(|(twin, _)| !own(twin));
        }
    }

    /// Numbers a request and remembers it.
    fn remember(&self, mut request: Request) -> Request {
        let mut requests = lock(&self.requests);
        request.number = self.served.fetch_add(1, Ordering::SeqCst);
        if requests.len() < REMEMBERED {
            requests.push(request.clone());
        }
        request
    }
}
