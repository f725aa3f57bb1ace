//! End-to-end tests of the binary.

mod bands;
mod bench;
mod classify;
mod dense;
mod device;
mod embed;
mod explain;
mod forward;
mod found;
mod gpu;
mod info;
mod ranks;
mod search;
#[cfg(all(unix, feature = "serve"))]
mod serve;
mod tiles;
mod train;
mod usage;
mod weights;
mod words;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::SafeTensors;

/// Result of running the binary.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    /// Asserts success and returns the output.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// Asserts that the exit code is `code` and returns standard error.
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// Runs the binary in the workspace root, with the small digits model as the default.
fn vitral<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    vitral_fed(args, &[])
}

/// Like [`vitral`], with the built-in model.
fn built_in<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    finished(Command::new(env!("CARGO_BIN_EXE_vitral")).args(args).env_remove("VITRAL_MODEL"), &[])
}

/// Like [`vitral`], with bytes on standard input.
fn vitral_fed<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Run {
    finished(Command::new(env!("CARGO_BIN_EXE_vitral")).args(args).env("VITRAL_MODEL", "assets/digits"), input)
}

fn finished(command: &mut Command, input: &[u8]) -> Run {
    // Results are of the CPU, also on a machine with a GPU.
    if !command.get_envs().any(|(name, _)| name == "VITRAL_DEVICE") {
        command.env("VITRAL_DEVICE", "cpu");
    }
    let mut child = command
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A run that fails early does not read its input.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden(name: &str) -> PathBuf {
    root().join("goldens/models").join(name)
}

/// A temporary folder.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Sorted names of a folder's entries.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Shape and values of a float32 tensor.
fn tensor(file: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(file).expect("a file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("`{name}` among {:?}", tensors.names()));
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect();
    (view.shape().to_vec(), values)
}

const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

fn digit(name: &str) -> String {
    format!("assets/digits/images/{name}.png")
}
