//! An independent RESO Web API to test against: `odatapy`, a server that is not ours, serving the
//! real WFRMLS `$metadata` (see `tests/odatapy/serve.py`).
//!
//! [`Server::start`] makes a Python environment below the target directory, once, and starts the
//! server on a free port. Where Python, the network or the real metadata are missing it says so
//! and the test is skipped; a server that does not start although all is there is a failure.

use crate::data;
use crate::json::Json;
use crate::python::environment;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Distinguishes the port files of servers that run at once.
static STARTED: Mutex<u32> = Mutex::new(0);

/// A running server. It stops when this is dropped, and when the test process ends.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
}

/// One filter of `tests/odatapy/filters.txt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What it is a case of.
    pub kind: String,
    /// The filter as a RESO service takes it.
    pub text: String,
    /// The same as odatapy takes it.
    pub theirs: String,
}

/// The filters that a mirror of the server must answer as the server does.
pub fn filters() -> Vec<Filter> {
    let path = data::root().join("tests/odatapy/filters.txt");
    let text = std::fs::read_to_string(path).expect("the filters stand beside the server");
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let filter = |line: &str| {
        let parts: Vec<_> = line.split(" | ").collect();
        let (kind, text) = (parts[0].to_owned(), parts[1].to_owned());
        let theirs = parts.get(2).map_or_else(|| text.clone(), |&t| t.to_owned());
        Filter { kind, text, theirs }
    };
    lines.map(filter).collect()
}

impl Server {
    /// Starts a server of `rows` entities of `Property`, or says that `test` is skipped.
    ///
    /// `directory` holds the Python environment: a test passes `env!("CARGO_TARGET_TMPDIR")`.
    pub fn start(test: &str, directory: &str, rows: u32) -> Option<Self> {
        let metadata = data::find(test, "wfrmls-metadata.xml")?;
        let list = "tests/odatapy/requirements.txt";
        let python = match environment(Path::new(directory), "odatapy-venv", list) {
            Ok(python) => python,
            Err(why) => {
                data::skipped(test, &why);
                return None;
            }
        };
        let number = {
            let mut started = STARTED.lock().expect("no test panics while it counts");
            *started += 1;
            *started
        };
        let name = format!("odatapy-{}-{number}.port", std::process::id());
        let port_file = Path::new(directory).join(name);
        let child = Command::new(python)
            .arg(data::root().join("tests/odatapy/serve.py"))
            .arg("--metadata")
            .arg(metadata)
            .args(["--rows", &rows.to_string(), "--port-file"])
            .arg(&port_file)
            // The server ends with its standard input, so with this process at the latest.
            .stdin(Stdio::piped())
            .spawn()
            .expect("the Python of the environment runs");
        let mut server = Server { child, port: 0 };
        server.port = server.wait_for_port(&port_file);
        Some(server)
    }

    fn wait_for_port(&mut self, file: &Path) -> u16 {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(port) = std::fs::read_to_string(file)
                .ok()
                .and_then(|t| t.parse().ok())
            {
                let _ = std::fs::remove_file(file);
                return port;
            }
            if let Some(status) = self.child.try_wait().expect("the server is our child") {
                panic!("odatapy did not start: {status}; its error is above");
            }
            assert!(
                Instant::now() < deadline,
                "odatapy did not answer within a minute"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The service root, with its last `/`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The keys of the entities of `Property` for which the filter holds, sorted; all without one.
    /// An error is the server's answer.
    pub fn keys(&self, filter: Option<&str>) -> Result<Vec<i64>, String> {
        let mut path = "/Property?$select=ListingKeyNumeric".to_owned();
        if let Some(filter) = filter {
            let _ = write!(path, "&$filter={}", percent_encoded(filter));
        }
        let mut keys = Vec::new();
        let mut next = Some(path);
        while let Some(path) = next {
            let page = self.get(&path)?;
            let rows = page["value"].as_array().ok_or("the page has no value")?;
            for row in rows {
                keys.push(
                    row["ListingKeyNumeric"]
                        .as_i64()
                        .ok_or("a row has no key")?,
                );
            }
            let link = page["@odata.nextLink"].as_str();
            next = link.map(|l| format!("/{}", l.trim_start_matches(&self.url())));
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// The JSON at a path that begins with `/` and is percent-encoded.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let body = self.send("GET", path, "")?;
        serde_json::from_str(&body).map_err(|e| format!("{path}: {e}"))
    }

    /// The entities of a set by the text of their key, numbers as the server writes them.
    pub fn entities(&self, set: &str, key: &str) -> Result<BTreeMap<i64, Json>, String> {
        let mut out = BTreeMap::new();
        let mut next = Some(format!("/{set}"));
        while let Some(path) = next {
            let body = Json::parse(&self.send("GET", &path, "")?);
            let page = body.members();
            for entity in page["value"].items() {
                let text = entity.members()[key].text();
                let key = text
                    .parse()
                    .map_err(|_| format!("{path}: the key {text}"))?;
                out.insert(key, Json::Object(entity.fields()));
            }
            next = match page.get("@odata.nextLink") {
                Some(Json::String(link)) => {
                    Some(format!("/{}", link.trim_start_matches(&self.url())))
                }
                _ => None,
            };
        }
        Ok(out)
    }

    /// Changes fields of one entity of `Property`.
    pub fn patch(&self, key: i64, fields: &Value) -> Result<(), String> {
        self.send("PATCH", &format!("/Property({key})"), &fields.to_string())
            .map(|_| ())
    }

    /// Deletes one entity of `Property`.
    pub fn delete(&self, key: i64) -> Result<(), String> {
        self.send("DELETE", &format!("/Property({key})"), "")
            .map(|_| ())
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let answer = self
            .exchange(method, path, body)
            .map_err(|e| format!("{path}: {e}"))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or("the answer has no head")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status.starts_with('2') {
            return Ok(body.to_owned());
        }
        Err(format!("{method} {path}: {status} {body}"))
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query option's value as it stands in a URL: a space is `%20`.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~'(),:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
