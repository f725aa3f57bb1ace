//! Makes `crates/vitral-serve/src/wire/inference.rs` from `crates/vitral-serve/proto/inference.proto`, without `protoc`:
//!
//! ```sh
//! cargo run --manifest-path tools/protocol/Cargo.toml && cargo fmt --all
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/vitral-serve");
    let descriptors = protox::compile(["inference.proto"], [server.join("proto")])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        // Encoded images arrive here: they are not copied out of the message.
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.InferTensorContents.bytes_contents")
        .out_dir(server.join("src/wire"))
        .compile_fds(descriptors)?;
    Ok(())
}
