//! Clients that mean no good, or cannot help it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vitral_serve::Options;

use crate::started::{Started, cat, read, root};

fn closed_within(stream: &mut TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).expect("a limit");
    let mut rest = Vec::new();
    // An end, or a reset; a timeout is an error of another kind.
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(fault) => fault.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn silent_and_slow_connections_are_closed_and_hinder_nobody() {
    let times = (Duration::from_millis(700), Duration::from_millis(700));
    let server = Started::with(Options::default().sending_times(times.0, times.1));
    let mut silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(server.address).expect("a connection")).collect();
    let mut slow = TcpStream::connect(server.address).expect("a connection");
    let started = Instant::now();
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
    // A byte at a time.
    for byte in b"POST /v1/classify HT" {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(closed_within(&mut slow, Duration::from_secs(5)));
    assert!(silent.iter_mut().all(|stream| closed_within(stream, Duration::from_secs(5))));
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
}

#[test]
fn bodies_without_end_are_refused() {
    let server = Started::with(Options::default().max_body(1 << 20));
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream.write_all(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").expect("sent");
    let chunk = [b"10000\r\n".as_slice(), &[7; 0x10000], b"\r\n"].concat();
    for _ in 0..64 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    // A small body that grows when it is unpacked.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; 64 << 20]).expect("memory");
    let response = crate::started::agent()
        .post(server.url("/v1/classify"))
        .header("content-encoding", "gzip")
        .send(&packed.finish().expect("memory"))
        .expect("an answer");
    assert_eq!(read(response).0, 413);
}

#[test]
fn all_bodies_together_have_a_limit() {
    let whole = cat().len();
    let server = Started::with(Options::default().max_body(whole).max_bodies(whole));
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
    let mut half = TcpStream::connect(server.address).expect("a connection");
    let head = format!("POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: {whole}\r\n\r\n");
    half.write_all(&[head.as_bytes(), &cat()[..whole / 2]].concat()).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.image("/v1/classify", &cat()).0, 429);
    drop(half);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
}

/// Answers that nobody reads fill the connection, and then wait.
#[test]
fn clients_that_read_nothing_are_cut_off() {
    let server = Started::with(Options::default().sending_times(Duration::from_secs(60), Duration::from_millis(500)));
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2000);
    stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a limit");
    // The server stops reading once it cannot write, and then gives up.
    let _ = stream.write_all(&request);
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").is_err() || {
            std::thread::sleep(Duration::from_millis(200));
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").is_err()
        }
    );
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
}

/// In memory, each value takes many times its bytes.
#[test]
fn json_of_very_many_values_is_refused() {
    let server = Started::usual();
    let many = format!(r#"{{"image": "", "x": [{}0]}}"#, "[],".repeat(60_000));
    for path in ["/v1/classify", "/v1/embeddings", "/"] {
        assert_eq!(read(server.post(path, "application/json", many.as_bytes())).0, 413, "{path}");
    }
    let outputs = r#"{"name": "features"},"#.repeat(1000);
    let many = format!(r#"{{"inputs": [], "outputs": [{}]}}"#, outputs.trim_end_matches(','));
    let (status, answer) = read(server.post("/v2/models/cifar10/infer", "application/json", many.as_bytes()));
    assert!(status == 400 && answer.to_string().contains("at most 16"), "{status} {answer}");
}

#[test]
fn clients_that_leave_make_room() {
    let server = Started::with(Options::default().max_queue_size(crate::started::some(2)));
    std::thread::scope(|scope| {
        scope.spawn(|| server.image("/v1/explain?method=rise&passes=1500&format=json", &cat()));
        std::thread::sleep(Duration::from_millis(150));
        let waiting = |_| {
            let mut stream = TcpStream::connect(server.address).expect("a connection");
            let head = format!("POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", cat().len());
            stream.write_all(&[head.as_bytes(), &cat()].concat()).expect("sent");
            stream
        };
        let streams: Vec<TcpStream> = (0..2).map(waiting).collect();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server.image("/v1/classify", &cat()).0, 429);
        drop(streams);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server.image("/v1/classify", &cat()).0, 200);
    });
}

#[test]
fn every_damaged_image_of_the_repository_is_an_error_or_an_answer() {
    let server = Started::usual();
    let mut count = 0;
    for folder in ["goldens/image/field", "goldens/image"] {
        let Ok(entries) = std::fs::read_dir(root().join(folder)) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()) {
            let bytes = std::fs::read(&path).expect("a file");
            for cut in [bytes.len(), bytes.len() / 2] {
                let (status, answer) = server.image("/v1/classify", &bytes[..cut]);
                assert!(matches!(status, 200 | 413 | 415), "{}: {status} {answer}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 10, "found only {count} images");
    assert_eq!(server.get("/health").status(), 200);
}

#[test]
fn any_bytes_anywhere_are_answered() {
    let server = Started::usual();
    let fields = r#"["inputs": \[\]{},01-9.e"aBc=]{0,60}"#;
    let body = prop_oneof![proptest::collection::vec(any::<u8>(), 0..300), fields.prop_map(String::into_bytes)];
    let path = prop_oneof![
        Just("/v2/models/cifar10/infer"),
        Just("/v2/repository/index"),
        Just("/v1/classify"),
        Just("/v1/embeddings"),
        Just("/v1/explain?format=json"),
        Just("/"),
    ];
    let kind = prop_oneof![
        Just("application/json"),
        Just("image/png"),
        Just("multipart/form-data; boundary=x"),
        Just("application/octet-stream"),
    ];
    let length = proptest::option::of(0usize..80);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let asked = (path, kind, body, length);
    runner
        .run(&asked, |(path, kind, body, length)| {
            let mut request = crate::started::agent().post(server.url(path)).header("content-type", kind);
            if let Some(length) = length {
                request = request.header("inference-header-content-length", length.to_string());
            }
            let (status, answer) = read(request.send(&body).expect("an answer"));
            prop_assert!((200..500).contains(&status), "{path} {status} {answer}");
            Ok(())
        })
        .expect("every request is answered");
}
