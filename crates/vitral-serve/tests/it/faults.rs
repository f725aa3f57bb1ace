//! What is wrong is said with the right status, in the form of the protocol, and without a path of the server.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vitral::LoadOptions;
use vitral_serve::{ModelSource, Options, ServeError, Server};

use crate::started::{Started, agent, cat, read, root, some};

#[test]
fn each_fault_has_its_status() {
    let server = Started::with(Options::default().max_body(1 << 20).max_pixels(1_000_000));
    let cases: &[(&str, &str, &[u8], u16)] = &[
        ("/v1/classify", "image/jpeg", b"no image", 415),
        ("/v1/classify", "image/jpeg", b"", 415),
        ("/v1/classify", "image/jpeg", &cat()[..200], 415),
        ("/v1/classify?top=0", "image/jpeg", &cat(), 400),
        ("/v1/classify?top=many", "image/jpeg", &cat(), 400),
        ("/v1/classify?tops=3", "image/jpeg", &cat(), 400),
        ("/v1/classify?timeout=0", "image/jpeg", &cat(), 400),
        ("/v1/classify?model=other", "image/jpeg", &cat(), 404),
        ("/v1/classify", "application/json", b"{}", 400),
        ("/v1/classify", "application/json", b"[", 400),
        ("/v1/classify", "application/json", br#"{"image": 3}"#, 400),
        ("/v1/classify", "application/json", br#"{"image": "aGk="}"#, 415),
        ("/v1/classify", "application/json", br#"{"images": []}"#, 400),
        ("/v1/classify", "application/json", br#"{"image": "https://example.org/cat.jpg"}"#, 400),
        ("/v1/classify", "multipart/form-data", b"", 400),
        ("/v1/classify", "multipart/form-data; boundary=x", b"--x--", 400),
        ("/v1/explain?method=magic", "image/jpeg", &cat(), 400),
        ("/v1/explain?method=attention&layer=99", "image/jpeg", &cat(), 400),
        ("/v1/explain?method=attention&head=-99", "image/jpeg", &cat(), 400),
        ("/v1/explain?method=patch&at=900,900", "image/jpeg", &cat(), 400),
        ("/v1/explain?method=patch&patch=900", "image/jpeg", &cat(), 400),
        ("/v1/explain?class=unicorn", "image/jpeg", &cat(), 400),
        ("/v1/explain?opacity=7", "image/jpeg", &cat(), 400),
        ("/v1/embed?pool=all", "image/jpeg", &cat(), 400),
        ("/v1/embeddings", "application/json", br#"{"input": "a photo of a cat"}"#, 400),
        ("/v1/embeddings", "application/json", br#"{"input": [[1, 2]]}"#, 400),
        ("/v1/embeddings", "application/json", br#"{"input": "aGk=", "dimensions": 7}"#, 400),
        ("/", "application/json", br#"{"inputs": "aGk=", "parameters": {"top_k": 0}}"#, 400),
        ("/models/other", "image/jpeg", &cat(), 404),
        ("/v2/models/other/infer", "application/json", b"{}", 404),
        ("/v2/models/cifar10/versions/2/infer", "application/json", b"{}", 404),
        ("/v2/models/cifar10/infer", "application/json", b"{}", 400),
        ("/v2/models/cifar10/infer", "application/json", br#"{"inputs": []}"#, 400),
        ("/nothing", "image/jpeg", b"", 404),
        ("/metrics", "image/jpeg", b"", 405),
        ("/v1/classify", "image/jpeg", &vec![0; (1 << 20) + 1], 413),
    ];
    for (path, kind, body, expected) in cases {
        let (status, answer) = read(server.post(path, kind, body));
        assert_eq!(status, *expected, "{path} {kind}: {answer}");
        let message = message(&answer);
        assert!(
            message.is_some_and(|text| text.len() > 10 && !text.contains("/work") && !text.contains(".rs")),
            "{answer}"
        );
    }
    // A header that declares more pixels than are allowed is enough to refuse it.
    let large = [b"P6 2000 2000 255\n".as_slice(), &[0; 64]].concat();
    assert_eq!(server.image("/v1/classify", &large).0, 413);
}

/// The message in whichever form.
fn message(answer: &Value) -> Option<&str> {
    answer["error"].as_str().or(answer["error"]["message"].as_str())
}

#[test]
fn each_protocol_has_its_own_form() {
    let server = Started::usual();
    let form = |path: &str| read(server.post(path, "application/json", b"?")).1;
    assert!(form("/v2/models/cifar10/infer")["error"].is_string());
    assert!(form("/")["error"].is_string());
    assert_eq!(form("/v1/embeddings")["error"]["type"], json!("invalid_request_error"));
    assert_eq!(form("/v1/classify")["error"]["code"], json!("bad_request"));
    let response = server.get("/v1/classify");
    assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"POST".parse().unwrap()));
    let response = agent().post(server.url("/v1/classify")).header("content-encoding", "br").send(&cat()[..]);
    assert_eq!(read(response.expect("an answer")).0, 415);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let server = Started::usual();
    let infer = |input: Value| {
        let (status, answer) = server.json("/v2/models/cifar10/infer", &json!({ "inputs": [input] }));
        (status, message(&answer).unwrap_or_default().to_owned())
    };
    for (input, says) in [
        (json!({"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}), "`images` or `pixel_values`"),
        (json!({"name": "pixel_values", "datatype": "FP64", "shape": [1], "data": [1]}), "FP32"),
        (json!({"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": [1]}), "3072 numbers"),
        (json!({"name": "pixel_values", "datatype": "FP32", "shape": [1, 1, 32, 32], "data": [1]}), "[images, 3,"),
        (json!({"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, -32, 32], "data": [1]}), "[images, 3,"),
        (json!({"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 1048576, 1048576], "data": []}), "1048576"),
        (json!({"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 33, 32], "data": []}), "33"),
        (json!({"name": "images", "datatype": "BYTES", "shape": [2], "data": ["aGk="]}), "for 1 images"),
        (json!({"name": "images", "datatype": "BYTES", "shape": [1], "data": [1]}), "strings"),
        (
            json!({"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}),
            "9 more bytes",
        ),
        (json!({"name": "images", "datatype": "BYTES", "shape": [1]}), "neither"),
    ] {
        let (status, text) = infer(input.clone());
        assert!(status == 400 && text.contains(says), "{input}: {status} {text}");
    }
    let long = agent().post(server.url("/v2/models/cifar10/infer")).header("inference-header-content-length", "99");
    assert_eq!(read(long.send("{}").expect("an answer")).0, 400);
    let wanted = json!({ "inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}],
                         "outputs": [{ "name": "boxes" }] });
    assert_eq!(server.json("/v2/models/cifar10/infer", &wanted).0, 400);
    // Each output is a copy of all its numbers.
    let twice = json!({ "inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}],
                        "outputs": [{ "name": "features" }, { "name": "features" }] });
    let (status, answer) = server.json("/v2/models/cifar10/infer", &twice);
    assert!(status == 400 && message(&answer).is_some_and(|text| text.contains("`features` twice")), "{answer}");
}

#[test]
fn a_key_opens_what_is_closed() {
    let server = Started::with(Options::default().api_keys(["secret", "other"]));
    for path in ["/v2/health/live", "/v2/health/ready", "/health", "/"] {
        assert_eq!(server.get(path).status(), 200, "{path}");
    }
    // The page is open, but not the model behind the same path.
    assert_eq!(server.image("/", &cat()).0, 401);
    let asked = agent().post(server.url("/")).header("authorization", "Bearer secret").send(&cat()[..]);
    assert_eq!(read(asked.expect("an answer")).0, 200);
    for path in ["/v1/models", "/metrics", "/openapi.json", "/v2", "/info"] {
        let response = server.get(path);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
        for (key, expected) in [("Bearer secret", 200), ("bearer other", 200), ("Bearer secre", 401), ("secret", 401)] {
            let asked = agent().get(server.url(path)).header("authorization", key).call().expect("an answer");
            assert_eq!(asked.status(), expected, "{path} {key}");
        }
    }
}

#[test]
fn a_model_without_a_head_embeds_and_refuses_to_classify() {
    let path = root().join("goldens/models/hf_dinov2_model");
    if !path.exists() {
        panic!("the golden model `{}` has moved", path.display());
    }
    let source = ModelSource::path(&path, LoadOptions::default());
    let server = Started::serving([("dino", source)], Options::default());
    for path in ["/", "/models/dino", "/v1/classify"] {
        let (status, answer) = server.image(path, &cat());
        assert!(status == 400 && message(&answer).is_some_and(|text| text.contains("classifier")), "{answer}");
    }
    assert_eq!(server.image("/v1/embed", &cat()).0, 200);
    assert_eq!(read(server.get("/info")).1["pipeline_tag"], json!("image-feature-extraction"));
}

/// Otherwise a browser would hide from the page why it was refused.
#[test]
fn pages_of_other_origins_may_read_faults() {
    let server = Started::with(Options::default().cors(["https://example.org"]).api_keys(["secret"]));
    let asked = agent().get(server.url("/v1/models")).header("origin", "https://example.org").call();
    let response = asked.expect("an answer");
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://example.org");
    assert!(
        response.headers()["access-control-expose-headers"].to_str().is_ok_and(|text| text.contains("retry-after"))
    );
}

#[test]
fn parameters_stand_in_the_query_or_in_the_body() {
    let server = Started::usual();
    let (status, answer) = server.image("/?top_k=2&function_to_apply=none", &cat());
    assert!(status == 200 && answer.as_array().is_some_and(|labels| labels.len() == 2), "{answer}");
    assert!(answer[0]["score"].as_f64().is_some_and(|score| score > 1.0), "a logit: {answer}");
    assert_eq!(server.image("/?top_k=many", &cat()).0, 400);
    // A class is a number or a text.
    for class in [json!(3), json!("3"), json!("cat")] {
        let body = json!({ "image": STANDARD.encode(cat()), "class": class, "method": "gradcam", "format": "json" });
        let (status, answer) = server.json("/v1/explain", &body);
        assert!(status == 200 && answer["label"] == "cat", "{class}: {status} {answer}");
    }
}

#[test]
fn a_server_that_cannot_be_made_says_why() {
    let source = || ModelSource::embedded(None);
    assert!(matches!(Server::builder().build(), Err(ServeError::NoModels)));
    for name in ["", "a/b", "a b", "..", "stats", "ä"] {
        assert!(matches!(Server::builder().model(name, source()).build(), Err(ServeError::Name { .. })), "{name}");
    }
    let twice = Server::builder().model("a", source()).model("a", source()).build();
    assert!(matches!(twice, Err(ServeError::SameName { .. })));
    for origin in
        ["example.org", "https://example.org/", "https://Example.org", "*.example.org", "https://*.example.org"]
    {
        let options = Options::default().cors([origin]);
        let made = Server::builder().model("a", source()).options(options).build();
        assert!(matches!(made, Err(ServeError::Origin { .. })), "{origin}");
    }
    let options = Options::default().cors(["http://localhost:3000", "null", "*"]);
    assert!(Server::builder().model("a", source()).options(options).build().is_ok());
    let options = Options::default().max_body(1 << 30);
    let made = Server::builder().model("a", source()).options(options).build();
    assert!(matches!(made, Err(ServeError::Bodies { .. })));
    let missing = ModelSource::path("/nowhere/at/all", LoadOptions::default());
    let server = Server::builder().model("a", missing).build().expect("a server");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let fault = runtime.block_on(server.load()).expect_err("there is no such file").to_string();
    assert!(fault.contains("`a`") && fault.contains("/nowhere/at/all"), "{fault}");
}

#[test]
fn deadlines_queues_and_slow_bodies() {
    let options =
        Options::default().max_queue_size(some(1)).sending_times(Duration::from_secs(5), Duration::from_millis(300));
    let server = Started::with(options);
    // Something that takes long enough for the others to come while it is computed.
    let long = || server.image("/v1/explain?method=rise&passes=2000&format=json", &cat());
    std::thread::scope(|scope| {
        let first = scope.spawn(long);
        std::thread::sleep(Duration::from_millis(150));
        let second = scope.spawn(|| server.image("/v1/classify?timeout=0.3", &cat()));
        std::thread::sleep(Duration::from_millis(100));
        let third = server.post("/v1/classify", "image/jpeg", &cat());
        assert_eq!(third.status(), 429);
        assert!(third.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(second.join().expect("no panic").0, 504);
        // The one that gave up has left its place.
        let fourth = scope.spawn(|| server.image("/v1/classify", &cat()));
        assert_eq!(fourth.join().expect("no panic").0, 200);
        assert_eq!(first.join().expect("no panic").0, 200);
    });
    let (status, answer) = server.json("/v1/classify", &json!({ "images": ["aGk=", "aGk="] }));
    assert!(status == 413 && message(&answer).is_some_and(|text| text.contains("split")), "{answer}");
    let timeout = json!({ "inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 32, 32],
                                      "data": vec![0; 3072]}], "parameters": { "timeout": 1 } });
    assert_eq!(server.json("/v2/models/cifar10/infer", &timeout).0, 504);

    use std::io::{Read, Write};
    let mut slow = std::net::TcpStream::connect(server.address).expect("a connection");
    slow.write_all(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nonly").expect("sent");
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
}
