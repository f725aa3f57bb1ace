//! Prints the folder of the stand-in libraries, for scripts.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let checked = match arguments.as_slice() {
        [] => false,
        [one] if one == "--checked" => true,
        _ => {
            eprintln!(
                "usage: emulated-driver [--checked]\nBuilds the stand-in for NVIDIA's libraries and prints its folder."
            );
            return ExitCode::from(2);
        }
    };
    match vitral_emulator::driver(checked) {
        Ok(folder) => {
            println!("{}", folder.display());
            ExitCode::SUCCESS
        }
        Err(missing) => {
            eprintln!("{missing}");
            ExitCode::from(1)
        }
    }
}
