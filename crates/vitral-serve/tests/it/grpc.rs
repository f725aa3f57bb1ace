//! The inference protocol over gRPC, with a client of its own: messages with only the fields that a test needs.

use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use vitral::image::{Limits, decode};
use vitral::{Device, Model};
use vitral_serve::Options;

use crate::started::{Started, cat, some};

#[derive(Clone, PartialEq, prost::Message)]
struct Input {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Input>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Output {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Inferred {
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Output>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    is: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

async fn channel(server: &Started) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc)).expect("an address");
    endpoint.connect().await.expect("a connection")
}

async fn call<Q: prost::Message + Send + Sync + 'static, A: prost::Message + Default + Send + Sync + 'static>(
    channel: &Channel,
    method: &str,
    request: Request<Q>,
) -> Result<A, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|fault| Status::unavailable(fault.to_string()))?;
    let path = PathAndQuery::try_from(format!("/inference.GRPCInferenceService/{method}")).expect("a path");
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    client.unary(request, path, codec).await.map(tonic::Response::into_inner)
}

/// An answer in a stream.
#[derive(Clone, PartialEq, prost::Message)]
struct Streamed {
    #[prost(string, tag = "1")]
    fault: String,
    #[prost(message, optional, tag = "2")]
    answer: Option<Inferred>,
}

/// Sends messages one after the other, and collects the answers.
async fn stream(server: &Started, messages: Vec<Infer>) -> Result<Vec<Streamed>, Status> {
    let mut client = tonic::client::Grpc::new(channel(server).await);
    client.ready().await.map_err(|fault| Status::unavailable(fault.to_string()))?;
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
    let codec = tonic_prost::ProstCodec::<Infer, Streamed>::default();
    let answers = client.streaming(Request::new(stream::iter(messages)), path, codec).await?;
    answers.into_inner().try_collect().await
}

fn infer(images: &[&[u8]]) -> Infer {
    let elements = |image: &&[u8]| [&(image.len() as u32).to_le_bytes(), *image].concat();
    Infer {
        model: "cifar10".to_owned(),
        id: "7".to_owned(),
        inputs: vec![Input { name: "images".into(), datatype: "BYTES".into(), shape: vec![images.len() as i64] }],
        raw: vec![images.iter().flat_map(elements).collect()],
    }
}

#[test]
fn answers_have_the_bits_of_the_library() {
    let server = Started::usual();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let found: Inferred = runtime
        .block_on(async { call(&channel(&server).await, "ModelInfer", Request::new(infer(&[&cat(), &cat()]))).await })
        .expect("an answer");
    assert_eq!((found.id.as_str(), found.outputs[0].name.as_str()), ("7", "logits"));
    assert_eq!(found.outputs[0].shape, [2, 10]);
    let model = Model::embedded(&Device::cpu(1)).expect("the built-in model");
    let image = decode(&cat(), &Limits::default()).expect("an image");
    let logits = model.logits(&model.pixels(&[image]).expect("pixels")).expect("logits").to_vec().expect("values");
    let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(found.raw[0], [bytes.clone(), bytes].concat());
}

/// The same memory as for bodies over HTTP; of a stream, a message counts until it is answered.
#[test]
fn messages_together_have_a_limit() {
    // What follows an image in its file does not matter; a message is larger than a frame of HTTP/2.
    let cat = || [cat(), vec![0; 40_000]].concat();
    let server = Started::with(Options::default().max_body(64_000).max_bodies(80_000));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let found = runtime.block_on(stream(&server, vec![infer(&[&cat()]); 6])).expect("answers");
    assert_eq!(found.len(), 6);
    assert!(found.iter().all(|one| one.fault.is_empty() && one.answer.as_ref().is_some_and(|one| one.id == "7")));
    let large = Request::new(infer(&[&cat(), &cat()]));
    let refused = runtime.block_on(async { call::<_, Inferred>(&channel(&server).await, "ModelInfer", large).await });
    let refused = refused.expect_err("two are too many").code();
    assert!(matches!(refused, Code::ResourceExhausted | Code::OutOfRange), "{refused:?}");
    let one = Request::new(infer(&[&cat()]));
    let found = runtime.block_on(async { call::<_, Inferred>(&channel(&server).await, "ModelInfer", one).await });
    assert_eq!(found.expect("room again").outputs[0].shape, [1, 10]);
}

#[test]
fn faults_have_the_codes_of_grpc() {
    let options = Options::default().max_queue_size(some(1)).max_body(1 << 20).api_keys(["secret"]);
    let server = Started::with(options);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let code = |message: Infer, key: Option<&str>, timeout: Option<Duration>| {
        let mut request = Request::new(message);
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("a value"));
        }
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let called = async { call::<_, Inferred>(&channel(&server).await, "ModelInfer", request).await };
        runtime.block_on(called).map_or_else(|status| status.code(), |_| Code::Ok)
    };
    let key = Some("secret");
    assert_eq!(code(infer(&[&cat()]), key, None), Code::Ok);
    assert_eq!(code(infer(&[&cat()]), None, None), Code::Unauthenticated);
    assert_eq!(code(infer(&[&cat()]), Some("other"), None), Code::Unauthenticated);
    assert_eq!(code(infer(&[b"no image"]), key, None), Code::InvalidArgument);
    assert_eq!(code(infer(&[]), key, None), Code::InvalidArgument);
    assert_eq!(code(Infer { model: "none".into(), ..infer(&[&cat()]) }, key, None), Code::NotFound);
    assert_eq!(code(Infer { raw: vec![vec![9, 9]], ..infer(&[&cat()]) }, key, None), Code::InvalidArgument);
    assert_eq!(code(Infer { raw: vec![vec![]; 3], ..infer(&[&cat()]) }, key, None), Code::InvalidArgument);
    assert_eq!(code(infer(&[&vec![0; 4 << 20]]), key, None), Code::OutOfRange);
    let flags = runtime.block_on(async {
        let channel = channel(&server).await;
        let live: Flag = call(&channel, "ServerLive", Request::new(Flag::default())).await.expect("open");
        let ready: Flag = call(&channel, "ServerReady", Request::new(Flag::default())).await.expect("open");
        let closed = call::<_, Flag>(&channel, "ModelReady", Request::new(Name { name: "cifar10".into() })).await;
        (live.is, ready.is, closed.expect_err("it needs a key").code())
    });
    assert_eq!(flags, (true, true, Code::Unauthenticated));
    // A queue that is full, and a deadline that passes while waiting.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = crate::started::agent().post(server.url("/v1/explain?method=rise&passes=2000&format=json"));
            request.header("authorization", "Bearer secret").send(&cat()[..]).expect("an answer");
        });
        std::thread::sleep(Duration::from_millis(150));
        let waiting = scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let mut request = Request::new(infer(&[&cat()]));
            request.metadata_mut().insert("authorization", "Bearer secret".parse().expect("a value"));
            request.set_timeout(Duration::from_millis(300));
            runtime.block_on(async { call::<_, Inferred>(&channel(&server).await, "ModelInfer", request).await })
        });
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(code(infer(&[&cat()]), key, None), Code::ResourceExhausted);
        let late = waiting.join().expect("no panic").expect_err("it is late").code();
        assert!(matches!(late, Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    });
}
