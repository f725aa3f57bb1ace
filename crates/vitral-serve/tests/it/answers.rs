//! Every protocol's answers are the library's, bit for bit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vitral::features::FeatureKind;
use vitral::image::{Limits, decode};
use vitral::{Device, Model};
use vitral_serve::Options;

use crate::started::{Started, agent, cat, images, read};

fn model() -> Model {
    Model::embedded(&Device::cpu(1)).expect("the built-in model")
}

/// Logits of an image, in class order.
fn logits(model: &Model, bytes: &[u8]) -> Vec<f32> {
    let image = decode(bytes, &Limits::default()).expect("an image");
    let pixels = model.pixels(&[image]).expect("pixels");
    model.logits(&pixels).expect("logits").to_vec().expect("values")
}

fn features(model: &Model, bytes: &[u8]) -> Vec<f32> {
    let image = decode(bytes, &Limits::default()).expect("an image");
    let pixels = model.pixels(&[image]).expect("pixels");
    model.features(&pixels, FeatureKind::Pooled).expect("features").to_vec().expect("values")
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

/// Probability and logit of each label.
fn labels(found: &Value) -> Vec<(u64, f32, f32)> {
    let number = |label: &Value, name: &str| label[name].as_f64().expect("a number") as f32;
    let label = |label: &Value| {
        (label["class"].as_u64().expect("a class"), number(label, "probability"), number(label, "logit"))
    };
    found["labels"].as_array().expect("labels").iter().map(label).collect()
}

#[test]
fn own_paths_take_images_forms_and_json() {
    let server = Started::usual();
    let model = model();
    let expected = |bytes: &[u8]| -> Vec<(u64, f32, f32)> {
        let ranked = model.classify_bytes(bytes, 3).expect("labels");
        ranked.into_iter().map(|one| (one.class as u64, one.probability, one.logit)).collect()
    };
    let all = images();
    for (_, bytes) in &all {
        let (status, found) = server.image("/v1/classify?top=3", bytes);
        assert_eq!((status, labels(&found["results"][0])), (200, expected(bytes)));
    }
    let texts: Vec<String> = all.iter().map(|(_, bytes)| STANDARD.encode(bytes)).collect();
    let (status, found) = server.json("/v1/classify", &json!({ "images": texts, "top": 3, "model": "cifar10" }));
    assert_eq!(status, 200);
    let mut form = Vec::new();
    for (name, bytes) in &all {
        let head = format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        form.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    form.extend(b"--edge\r\nContent-Disposition: form-data; name=\"top\"\r\n\r\n3\r\n--edge--\r\n");
    let (status, from_form) = read(server.post("/v1/classify?top=1", "multipart/form-data; boundary=edge", &form));
    assert_eq!(status, 200, "{from_form}");
    for (place, (name, bytes)) in all.iter().enumerate() {
        assert_eq!(labels(&found["results"][place]), expected(bytes));
        assert_eq!(labels(&from_form["results"][place]), expected(bytes));
        assert_eq!(from_form["results"][place]["image"], json!(name));
    }
    let (status, found) = server.image("/v1/embed", &cat());
    assert_eq!((status, floats(&found["results"][0]["features"])), (200, features(&model, &cat())));
    let (status, found) = server.image("/v1/embed?pool=tokens", &cat());
    let tokens = found["results"][0]["features"].as_array().expect("tokens");
    assert!(status == 200 && tokens.len() > 10 && floats(&tokens[0]).len() == 128, "{status}");
}

#[test]
fn maps_come_as_png_and_as_numbers() {
    let server = Started::usual();
    let mut response = server.post("/v1/explain?method=rollout", "image/jpeg", &cat());
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &"image/png".parse().unwrap()));
    let png = response.body_mut().read_to_vec().expect("bytes");
    assert!(decode(&png, &Limits::default()).expect("an image").width() >= 224);
    let (status, map) = server.image("/v1/explain?method=gradcam&class=dog&format=json", &cat());
    assert_eq!((status, &map["label"], &map["method"]), (200, &json!("dog"), &json!("gradcam")));
    let (rows, columns) = (map["grid"][0].as_u64().expect("rows"), map["grid"][1].as_u64().expect("columns"));
    assert_eq!(floats(&map["values"]).len() as u64, rows * columns);
    let shown = map["image"].as_str().and_then(|uri| uri.strip_prefix("data:image/png;base64,")).expect("a data URI");
    assert_eq!(decode(&STANDARD.decode(shown).expect("base64"), &Limits::default()).expect("an image").width(), 32);
    // A layer and a head of its own.
    let values = |query: &str| {
        let path = format!("/v1/explain?method=attention&format=json&{query}");
        floats(&server.image(&path, &cat()).1["values"])
    };
    assert_ne!(values("layer=0&head=1"), values("layer=0&head=0"));
    assert_eq!(values("layer=-1"), values(""));
}

#[test]
fn the_inference_protocol_in_json_and_binary() {
    let server = Started::usual();
    let model = model();
    let all = images();
    let expected: Vec<f32> = all.iter().flat_map(|(_, bytes)| logits(&model, bytes)).collect();
    let texts: Vec<String> = all.iter().map(|(_, bytes)| STANDARD.encode(bytes)).collect();
    let request = json!({
        "id": "7",
        "inputs": [{ "name": "images", "datatype": "BYTES", "shape": [all.len()], "data": texts }],
        "outputs": [{ "name": "logits" }],
    });
    let (status, found) = server.json("/v2/models/cifar10/infer", &request);
    assert_eq!((status, &found["id"]), (200, &json!("7")));
    assert_eq!(found["outputs"][0]["shape"], json!([all.len(), 10]));
    assert_eq!(floats(&found["outputs"][0]["data"]), expected);

    let mut elements = Vec::new();
    for (_, bytes) in &all {
        elements.extend((bytes.len() as u32).to_le_bytes());
        elements.extend(bytes);
    }
    let head = json!({
        "inputs": [{ "name": "images", "datatype": "BYTES", "shape": [all.len()],
                     "parameters": { "binary_data_size": elements.len() } }],
        "outputs": [{ "name": "features", "parameters": { "binary_data": false } },
                    { "name": "logits", "parameters": { "binary_data": true } }],
    })
    .to_string();
    let body = [head.as_bytes(), &elements].concat();
    let mut response = agent()
        .post(server.url("/v2/models/cifar10/versions/1/infer"))
        .header("inference-header-content-length", head.len().to_string())
        .send(&body)
        .expect("an answer");
    assert_eq!(response.status(), 200);
    let length: usize = response.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let bytes = response.body_mut().read_to_vec().expect("bytes");
    let answer: Value = serde_json::from_slice(&bytes[..length]).expect("JSON");
    assert_eq!(floats(&answer["outputs"][0]["data"]).len(), 128 * all.len());
    let raw: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(bytes[length..], raw);

    let pixels: Vec<f32> = (0..3 * 32 * 32).map(|i| (i % 17) as f32 / 17.0).collect();
    let request = json!({
        "inputs": [{ "name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": [pixels] }],
    });
    let (status, found) = server.json("/v2/models/cifar10/infer", &request);
    let names: Vec<&str> = found["outputs"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert_eq!((status, names), (200, vec!["logits", "probabilities", "features"]));
    let device = Device::cpu(1);
    let own = model.logits(&device.upload([1, 3, 32, 32], &pixels).expect("a tensor")).expect("logits");
    assert_eq!(floats(&found["outputs"][0]["data"]), own.to_vec().expect("values"));
}

#[test]
fn hugging_face_and_openai() {
    let server = Started::usual();
    let model = model();
    let (status, found) = server.image("/", &cat());
    let ranked = model.classify_bytes(&cat(), 5).expect("labels");
    assert_eq!(status, 200);
    for (found, expected) in found.as_array().expect("labels").iter().zip(&ranked) {
        assert_eq!(found["label"], json!(expected.label));
        assert_eq!(found["score"].as_f64().expect("a number") as f32, expected.probability);
    }
    let body = json!({ "inputs": STANDARD.encode(cat()), "parameters": { "top_k": 2, "function_to_apply": "none" } });
    let (status, found) = server.json("/models/cifar10", &body);
    assert_eq!((status, found[0]["score"].as_f64().unwrap() as f32), (200, ranked[0].logit));
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!(server.get("/health").status(), 200);
    assert_eq!(read(server.get("/info")).1["model_id"], json!("cifar10"));

    let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(cat()));
    let body = json!({ "model": "cifar10", "input": [uri], "encoding_format": "base64" });
    let (status, found) = server.json("/v1/embeddings", &body);
    let bytes = STANDARD.decode(found["data"][0]["embedding"].as_str().expect("text")).expect("base64");
    let raw: Vec<u8> = features(&model, &cat()).iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!((status, bytes), (200, raw));
    let (_, found) = server.json("/v1/embeddings", &json!({ "input": uri }));
    assert_eq!(floats(&found["data"][0]["embedding"]), features(&model, &cat()));
    assert_eq!(read(server.get("/v1/models")).1["data"][0]["id"], json!("cifar10"));
}

#[test]
fn what_the_server_says_about_itself() {
    let server = Started::usual();
    server.image("/v1/classify", &cat());
    let mut response = server.get("/metrics");
    let text = response.body_mut().read_to_string().expect("text");
    for line in [
        "vitral_images_total{model=\"cifar10\"} 1",
        "nv_inference_request_success{model=\"cifar10\",version=\"1\"} 1",
        "request_predict_seconds_count{model_name=\"cifar10\"} 1",
        "nv_inference_pending_request_count{model=\"cifar10\",version=\"1\"} 0",
        "vitral_requests_total{route=\"/v1/classify\",status=\"200\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (_, statistics) = read(server.get("/v2/models/cifar10/stats"));
    assert_eq!(statistics["model_stats"][0]["inference_count"], json!(1));
    assert_eq!(statistics["model_stats"][0]["batch_stats"][0]["batch_size"], json!(1));
    let (_, described) = read(server.get("/openapi.json"));
    let paths = described["paths"].as_object().expect("paths");
    for path in ["/", "/v1/classify", "/v1/explain", "/v1/embeddings", "/v2/models/{model}/infer", "/metrics"] {
        assert!(paths.contains_key(path), "{path}");
    }
    let mut page = server.get("/");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    let text = page.body_mut().read_to_string().expect("text");
    assert!(text.contains("</html>") && !text.contains("COLORS"));
    // A request keeps its identifier, and the trace that it is part of.
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let asked = agent().get(server.url("/v2")).header("x-request-id", "mine").header("traceparent", parent);
    let response = asked.call().expect("an answer");
    assert_eq!(
        (&response.headers()["x-request-id"], &response.headers()["traceparent"]),
        (&"mine".parse().unwrap(), &parent.parse().unwrap())
    );
}

#[test]
fn bodies_may_be_compressed_and_other_origins_named() {
    let server = Started::with(Options::default().cors(["https://example.org"]));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &cat()).expect("memory");
    let response = agent()
        .post(server.url("/v1/classify"))
        .header("content-encoding", "gzip")
        .header("origin", "https://example.org")
        .send(&packed.finish().expect("memory"))
        .expect("an answer");
    assert_eq!(response.headers()["access-control-allow-origin"], "https://example.org");
    assert_eq!(read(response).0, 200);
    let other = agent().get(server.url("/v2")).header("origin", "https://example.com").call().expect("an answer");
    assert!(!other.headers().contains_key("access-control-allow-origin"));
}
