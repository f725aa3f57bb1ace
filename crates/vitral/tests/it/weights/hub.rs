//! Pulls models from a small local server.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use vitral::text::TextModel;
use vitral::weights::hub::{Hub, HubName};
use vitral::{Device, LoadOptions, Model};

use super::goldens;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The server's behavior, and the requests it received.
#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// Cuts off the next download of a large file after this many bytes.
    cut: Option<usize>,
    /// Sends different bytes than announced.
    lie: bool,
    /// Ignores `Range`.
    forgetful: bool,
    token: Option<String>,
    asked: Vec<String>,
    leaked: bool,
}

/// A local hub: the list of files, and files that redirect to a content store.
fn serve(state: State) -> (String, Arc<Mutex<State>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::new(Mutex::new(state));
    let shared = state.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &mut shared.lock().unwrap());
        }
    });
    (endpoint, state)
}

fn answer(stream: TcpStream, state: &mut State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(request) = lines.first().cloned() else { return Ok(()) };
    let header = |name: &str| {
        let found = lines.iter().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        found.map(|line| line[name.len() + 1..].trim().to_owned())
    };
    let range =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let (method, path) = (request.split(' ').next().unwrap(), request.split(' ').nth(1).unwrap());
    state.asked.push(format!("{method} {path}{}", range.map_or(String::new(), |from| format!(" from {from}"))));
    let mut stream = stream;
    let mut send = |head: &str, body: &[u8]| {
        write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(body)
    };
    if let Some(file) = path.strip_prefix("/cdn/") {
        state.leaked |= header("authorization").is_some();
        let mut body = state.files[file].clone();
        if state.lie {
            body[0] ^= 1;
        }
        let (total, from) = (body.len(), range.filter(|_| !state.forgetful).unwrap_or(0));
        let mut rest = &body[from..];
        let length = rest.len();
        if let Some(cut) = state.cut.take_if(|_| file.ends_with(".safetensors")) {
            rest = &rest[..cut];
        }
        let status = match from {
            0 => format!("200 OK\r\nContent-Length: {length}"),
            _ => format!(
                "206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {from}-{}/{total}",
                total - 1
            ),
        };
        return send(&status, rest);
    }
    if state.token.is_some() && header("authorization") != state.token.as_ref().map(|token| format!("Bearer {token}")) {
        return send("401 Unauthorized\r\nContent-Length: 0", b"");
    }
    // A model that was renamed: redirects within the hub, without a word about the file.
    if let Some(rest) = ["/api/models/org/before/", "/org/before/"].iter().find_map(|old| {
        let rest = path.strip_prefix(old)?;
        Some(format!("{}{rest}", old.replace("before", "vit")))
    }) {
        return send(&format!("307 Temporary Redirect\r\nLocation: {rest}\r\nContent-Length: 0"), b"");
    }
    if let Some(revision) = path.strip_prefix("/api/models/org/vit/revision/") {
        if revision != "main" && revision != "v1" {
            return send("404 Not Found\r\nContent-Length: 0", b"");
        }
        let mut names: Vec<_> = state.files.keys().collect();
        names.sort();
        let siblings: Vec<_> = names.iter().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return send(&format!("200 OK\r\nContent-Length: {}", body.len()), body.as_bytes());
    }
    let file =
        path.strip_prefix(&format!("/org/vit/resolve/{COMMIT}/")).and_then(|file| state.files.get_key_value(file));
    let Some((name, body)) = file else { return send("404 Not Found\r\nContent-Length: 0", b"") };
    let sum: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    let linked = format!("X-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {}", body.len());
    // The content store is another host.
    let port = header("host").and_then(|host| Some(host.rsplit_once(':')?.1.to_owned())).unwrap_or_default();
    let store = format!("http://localhost:{port}/cdn/{name}");
    send(&format!("302 Found\r\nLocation: {store}\r\n{linked}\r\nETag: \"cdn\"\r\nContent-Length: 0"), b"")
}

fn golden(case: &str) -> State {
    golden_in("models", case)
}

fn golden_in(kind: &str, case: &str) -> State {
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
    };
    let mut files: HashMap<_, _> =
        std::fs::read_dir(goldens().join(kind).join(case)).unwrap().flatten().map(read).collect();
    files.retain(|name, _| !name.starts_with("input") && !name.starts_with("expected"));
    files.insert("README.md".into(), b"# a model".to_vec());
    State { files, ..State::default() }
}

fn hub(endpoint: &str, cache: &Path) -> Hub {
    Hub { endpoint: endpoint.into(), token: None, cache: cache.into(), offline: false }
}

fn name() -> HubName {
    "hf:org/vit".parse().unwrap()
}

#[test]
fn a_model_is_pulled_once_and_runs() {
    let (endpoint, state) = serve(golden("hf_vit_sharded"));
    let scratch = tempfile::tempdir().unwrap();
    let hub = hub(&endpoint, scratch.path());
    let mut reported = HashMap::new();
    let folder = hub.pull(&name(), &mut |progress| {
        reported.insert(progress.file.to_owned(), (progress.done, progress.total));
    });
    let folder = folder.unwrap();
    assert_eq!(folder, scratch.path().join("models--org--vit/snapshots").join(COMMIT));
    assert!(reported.len() > 3 && reported.values().all(|(done, total)| Some(*done) == *total), "{reported:?}");
    assert!(!folder.join("README.md").exists());
    Model::load(&folder, &LoadOptions::default(), &Device::cpu(1)).unwrap();
    let asked = state.lock().unwrap().asked.len();
    assert_eq!(hub.pull(&name(), &mut |_| panic!("nothing is fetched twice")).unwrap(), folder);
    assert_eq!(state.lock().unwrap().asked.len(), asked + 1, "one request: has the revision moved");
    // Now without the hub: offline, and unreachable.
    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(offline.pull(&name(), &mut |_| {}).unwrap(), folder);
    let gone = Hub { endpoint: "http://127.0.0.1:1".into(), ..hub };
    assert_eq!(gone.pull(&name(), &mut |_| {}).unwrap(), folder);
    let error = gone.pull(&"hf:org/other".parse().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("HF_ENDPOINT"), "{error}");
    let error = offline.pull(&"hf:org/other".parse().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
}

/// What a tokenizer does depends on a file beside it.
#[test]
fn a_model_of_images_and_texts_comes_with_its_tokenizer() {
    for case in ["clip", "siglip", "siglip2"] {
        let (endpoint, _) = serve(golden_in("texts", case));
        let scratch = tempfile::tempdir().unwrap();
        let folder = hub(&endpoint, scratch.path()).pull(&name(), &mut |_| {}).unwrap();
        let load = |folder: &Path| TextModel::load(folder, None, &Device::cpu(1)).unwrap();
        let (pulled, own) = (load(&folder), load(&goldens().join("texts").join(case)));
        for text in ["A photo of a Cat, asleep!", "東京の夜景"] {
            assert_eq!(pulled.tokens(text).unwrap(), own.tokens(text).unwrap(), "{case}: {text}");
        }
        assert!(!folder.join("labels.json").exists());
    }
    // A model of images alone has no use for one.
    let mut state = golden("hf_vit_sharded");
    state.files.insert("tokenizer.json".to_owned(), b"{}".to_vec());
    let (endpoint, _) = serve(state);
    let scratch = tempfile::tempdir().unwrap();
    let folder = hub(&endpoint, scratch.path()).pull(&name(), &mut |_| {}).unwrap();
    assert!(!folder.join("tokenizer.json").exists());
}

#[test]
fn an_interrupted_download_is_resumed() {
    for forgetful in [false, true] {
        let (endpoint, state) = serve(State { cut: Some(1000), forgetful, ..golden("timm_plain") });
        let scratch = tempfile::tempdir().unwrap();
        let hub = hub(&endpoint, scratch.path());
        assert!(hub.pull(&name(), &mut |_| {}).is_err());
        let folder = hub.pull(&name(), &mut |_| {}).unwrap();
        let asked = state.lock().unwrap().asked.join("\n");
        assert!(asked.contains("GET /cdn/model.safetensors from 1000"), "{asked}");
        let original = std::fs::read(goldens().join("models/timm_plain/model.safetensors")).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), original);
        let blobs = std::fs::read_dir(scratch.path().join("models--org--vit/blobs")).unwrap().flatten();
        assert!(blobs.into_iter().all(|blob| !blob.file_name().to_string_lossy().contains("incomplete")));
    }
}

#[test]
fn downloads_with_a_wrong_checksum_are_deleted() {
    let (endpoint, state) = serve(State { lie: true, ..golden("timm_plain") });
    let scratch = tempfile::tempdir().unwrap();
    let hub = hub(&endpoint, scratch.path());
    let error = hub.pull(&name(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains("deleted"), "{error}");
    assert!(!scratch.path().join("models--org--vit/snapshots").exists());
    state.lock().unwrap().lie = false;
    hub.pull(&name(), &mut |_| {}).unwrap();
}

#[test]
fn tokens_revisions_and_refused_requests() {
    let (endpoint, state) = serve(State { token: Some("secret".into()), ..golden("timm_plain") });
    let scratch = tempfile::tempdir().unwrap();
    let without = hub(&endpoint, scratch.path());
    let error = without.pull(&name(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("HF_TOKEN"), "{error}");
    let with = Hub { token: Some("secret".into()), ..without };
    with.pull(&"hf:org/vit@v1".parse().unwrap(), &mut |_| {}).unwrap();
    // Redirects within the hub are followed with the token.
    let renamed = tempfile::tempdir().unwrap();
    let elsewhere = Hub { cache: renamed.path().to_owned(), ..with.clone() };
    elsewhere.pull(&"hf:org/before".parse().unwrap(), &mut |_| {}).unwrap();
    assert!(!state.lock().unwrap().leaked, "the token was sent to the content store");
    let wrong = Hub { token: Some("other".into()), ..elsewhere };
    let error = wrong.pull(&"hf:org/vit@v1".parse().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("the token that was sent"), "{error}");
    let revision = std::fs::read_to_string(scratch.path().join("models--org--vit/refs/v1")).unwrap();
    assert_eq!(revision, COMMIT);
    let error = with.pull(&"hf:org/vit@v9".parse().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("revision"), "{error}");
    // A hub that lists files outside their folder, or no weights.
    state.lock().unwrap().files =
        HashMap::from([("../../config.json".into(), Vec::new()), ("tf_model.h5".into(), Vec::new())]);
    let error = with.pull(&name(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("no weights") && error.contains("tf_model.h5"), "{error}");
}
