use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

/// A server in a process of its own.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_vitral"))
            .args(["serve", "--port", "0", "--json", "--device", "cpu", "--log-level", "warn"])
            .args(arguments)
            .env_remove("VITRAL_MODEL")
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let address = said["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address").to_owned();
        let server = Server { process, address };
        let limit = Instant::now() + Duration::from_secs(60);
        while server.ask("GET /v2/health/ready", &[]).0 != 200 {
            assert!(Instant::now() < limit, "the server was not ready in time");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Status and body of one request.
    fn ask(&self, line: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a head").1;
        (status, body.to_owned())
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().expect("`kill`").success());
    }

    fn code(mut self) -> Option<i32> {
        self.process.wait().expect("it ends").code()
    }
}

/// The files that the tests' default model comes from.
fn digits(folder: &Path) {
    for entry in std::fs::read_dir(root().join("assets/digits")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().expect("a name"))).expect("a copy");
        }
    }
}

#[test]
fn answers_like_classify_and_ends_with_0() {
    let server = Server::start(&["--model", "digits=assets/digits", "--threads", "2"]);
    let line = vitral(["classify", "--model", "assets/digits", "--json", &digit("seven")]).ok();
    let expected: Value = serde_json::from_str(&line).expect("JSON");
    let image = std::fs::read(root().join(digit("seven"))).expect("an asset");
    let (status, found) = server.ask("POST /v1/classify", &image);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!((status, &found["model"]), (200, &Value::from("digits")));
    for key in ["labels", "problem", "precision"] {
        assert_eq!(found["results"][0][key], expected[key]);
    }
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
}

#[test]
fn a_hangup_loads_what_has_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    digits(folder.path());
    let server = Server::start(&["--model", &format!("m={}", folder.path().display())]);
    let image = std::fs::read(root().join(digit("seven"))).expect("an asset");
    let label = || {
        let (status, found) = server.ask("POST /v1/classify", &image);
        assert_eq!(status, 200, "{found}");
        serde_json::from_str::<Value>(&found).expect("JSON")["results"][0]["labels"][0]["label"].clone()
    };
    assert_eq!(label(), "7");
    let file = folder.path().join("vitral.json");
    let description = std::fs::read_to_string(&file).expect("a description");
    assert!(description.contains("\"7\""), "the description names its classes");
    std::fs::write(&file, description.replace("\"7\"", "\"seven\"")).expect("written");
    server.signal("HUP");
    let limit = Instant::now() + Duration::from_secs(30);
    while label() != "seven" {
        assert!(Instant::now() < limit, "the model was not loaded again in time");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.signal("INT");
    assert_eq!(server.code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_said_before_anything_is() {
    let missing = vitral(["serve", "--port", "0", "--model", "nowhere"]).fails(1);
    assert!(missing.contains("the model `nowhere`") && missing.contains("no such file or folder"), "{missing}");
    for (arguments, says) in [
        (&["--model", "a=assets/digits", "--model", "a=assets/digits"][..], "`a` twice"),
        (&["--model", "a b=assets/digits"], "letters, digits"),
        (&["--api-key", ""], "an empty one"),
        (&["--cors", "a\nb"], "an origin"),
        (&["--timeout", "0"], "seconds above 0"),
        (&["--precision", "f64"], "f64"),
    ] {
        let said = vitral(["serve", "--port", "0"].iter().chain(arguments)).fails(2);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    assert!(vitral(["serve", "--port", &port]).fails(1).contains("choose another `--port`"));
}
