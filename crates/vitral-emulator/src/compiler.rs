//! The machine's C++ compiler.

use crate::Missing;
use std::process::Command;

/// A C++ compiler that answers.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// The program, and options that come first (`ccache g++`).
    pub(crate) line: String,
    /// The first line of `--version`.
    pub(crate) version: String,
}

impl Compiler {
    /// `$CXX`, else the usual names.
    pub(crate) fn find() -> Result<Self, Missing> {
        let candidates = match std::env::var("CXX") {
            Ok(name) if !name.trim().is_empty() => vec![name],
            _ => ["c++", "g++", "clang++"].map(String::from).to_vec(),
        };
        for line in &candidates {
            let mut compiler = Self { line: line.clone(), version: String::new() };
            let Ok(output) = compiler.command().arg("--version").output() else { continue };
            if output.status.success() {
                compiler.version =
                    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
                return Ok(compiler);
            }
        }
        Err(Missing::Compiler(candidates))
    }

    pub(crate) fn command(&self) -> Command {
        let mut words = self.line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    fn is_clang(&self) -> bool {
        self.version.contains("clang")
    }

    /// How kernels are compiled without checks.
    pub(crate) fn fast_flags(&self) -> String {
        "-O2".to_owned()
    }

    /// How kernels are compiled so that every load and store is reported. The sanitizers' libraries are not linked: the emulator has
    /// the functions that they would bring.
    pub(crate) fn checked_flags(&self) -> String {
        let no_entries = if self.is_clang() {
            "-mllvm -tsan-instrument-func-entry-exit=0"
        } else {
            "--param tsan-instrument-func-entry-exit=0"
        };
        format!(
            "-O1 -fsanitize=thread {no_entries} \
             -fsanitize=alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero"
        )
    }
}
