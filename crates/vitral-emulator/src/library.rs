//! Builds the stand-in libraries, once for every version of the sources and the compiler.

use crate::compiler::Compiler;
use crate::sources::{HEADERS, INTERNAL_HEADERS, SETTINGS, Source, UNITS};
use crate::{LIBRARIES, Missing};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// The library that has everything; the others only have the names that programs look for.
const CORE: &str = "libvitral_emulator.so";

pub(crate) fn folder(checked: bool) -> Result<PathBuf, Missing> {
    let supported = cfg!(target_os = "linux") && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    if !supported {
        return Err(Missing::Platform);
    }
    let compiler = Compiler::find()?;
    let root = target_folder().join("vitral-emulator");
    let built = root.join(fingerprint(&compiler));
    let wanted = built.join(if checked { "checked" } else { "fast" });
    // Tests of one process ask at the same time; one of them builds.
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if !wanted.join(LIBRARIES[0]).exists() {
        // Several processes may build at the same time. Each does so in a folder of its own; the first to finish gives it the name.
        let work = root.join(format!("building-{}", std::process::id()));
        let result = build(&compiler, &work).map(|()| fs::rename(&work, &built));
        fs::remove_dir_all(&work).ok();
        if let Err(log) | Ok(Err(log)) = result.map(|renamed| renamed.map_err(|error| error.to_string()))
            && !wanted.join(LIBRARIES[0]).exists()
        {
            return Err(Missing::Build(log));
        }
    }
    Ok(wanted)
}

/// Cargo's target folder: the one that this program was built into.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let tagged = program.ancestors().skip(1).find(|folder| folder.join("CACHEDIR.TAG").exists());
    match (tagged, std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(folder), _) => folder.to_owned(),
        (None, Some(folder)) => folder.into(),
        (None, None) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}

/// Changes whenever the libraries could.
fn fingerprint(compiler: &Compiler) -> String {
    let mut sum = Sha256::new();
    for (path, text) in [HEADERS, INTERNAL_HEADERS, UNITS, &[SETTINGS]].concat() {
        sum.update(path);
        sum.update([0]);
        sum.update(text);
        sum.update([0]);
    }
    for text in [&compiler.line, &compiler.version, &compiler.fast_flags(), &compiler.checked_flags()] {
        sum.update(text);
        sum.update([0]);
    }
    sum.update(FLAGS.join(" "));
    sum.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

// All of the emulator's thread-local memory is a few words that kernels read at every turn: of the kind that is set up when the
// library is loaded.
const FLAGS: [&str; 9] = [
    "-std=c++17",
    "-O3",
    "-g1",
    "-fPIC",
    "-ftls-model=initial-exec",
    "-Wall",
    "-Wextra",
    "-ffp-contract=off",
    "-fvisibility=default",
];

fn build(compiler: &Compiler, work: &Path) -> Result<(), String> {
    let written = |result: io::Result<()>| result.map_err(|error| format!("{}: {error}", work.display()));
    written(fs::create_dir_all(work.join("objects")))?;
    write_sources(&[HEADERS, INTERNAL_HEADERS, UNITS, &[SETTINGS]].concat(), work)
        .map_err(|error| error.to_string())?;

    let objects = work.join("objects");
    let mut jobs: Vec<Vec<String>> = UNITS.iter().map(|(path, _)| compilation(compiler, work, path, None)).collect();
    jobs.push(compilation(compiler, work, SETTINGS.0, Some(false)));
    jobs.push(compilation(compiler, work, SETTINGS.0, Some(true)));
    run_all(compiler, &jobs)?;

    let units: Vec<String> = UNITS.iter().map(|(path, _)| object(&objects, path, None)).collect();
    for (checked, name) in [(false, "fast"), (true, "checked")] {
        let folder = work.join(name);
        written(fs::create_dir_all(folder.join("kernels")))?;
        write_sources(HEADERS, &folder).map_err(|error| error.to_string())?;
        let mut link = vec!["-shared".to_owned(), "-o".to_owned(), text(&folder.join(CORE))];
        link.extend(units.iter().cloned());
        link.push(object(&objects, SETTINGS.0, Some(checked)));
        link.extend([format!("-Wl,-soname,{CORE}"), "-lpthread".to_owned(), "-ldl".to_owned()]);
        run(compiler, &link)?;
        // Real libraries with the names inside, not links: a program may find one that is already loaded by its name.
        let names: Vec<Vec<String>> = LIBRARIES
            .iter()
            .map(|library| {
                ["-shared", "-o", &text(&folder.join(library)), "-Wl,--no-as-needed", "-L", &text(&folder)]
                    .into_iter()
                    .map(str::to_owned)
                    .chain([format!("-l:{CORE}"), format!("-Wl,-soname,{library}"), "-Wl,-rpath,$ORIGIN".to_owned()])
                    .collect()
            })
            .collect();
        run_all(compiler, &names)?;
    }
    fs::remove_dir_all(objects).ok();
    Ok(())
}

fn write_sources(sources: &[Source], folder: &Path) -> io::Result<()> {
    for (path, text) in sources {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn object(objects: &Path, source: &str, checked: Option<bool>) -> String {
    let suffix = checked.map(|checked| format!(".{checked}")).unwrap_or_default();
    text(&objects.join(format!("{}{suffix}.o", source.replace('/', "."))))
}

fn compilation(compiler: &Compiler, work: &Path, source: &str, checked: Option<bool>) -> Vec<String> {
    let mut arguments: Vec<String> = FLAGS.map(str::to_owned).to_vec();
    arguments.push(format!("-DVITRAL_EMULATOR_COMPILER=\"{}\"", compiler.line));
    arguments.push(format!("-DVITRAL_EMULATOR_FAST_FLAGS=\"{}\"", compiler.fast_flags()));
    arguments.push(format!("-DVITRAL_EMULATOR_CHECKED_FLAGS=\"{}\"", compiler.checked_flags()));
    arguments.extend(checked.map(|checked| format!("-DVITRAL_EMULATOR_CHECKED={checked}")));
    arguments.extend(["-c".to_owned(), text(&work.join(source))]);
    arguments.extend(["-o".to_owned(), object(&work.join("objects"), source, checked)]);
    arguments
}

/// Runs the compiler several times, as many at once as there are cores.
fn run_all(compiler: &Compiler, jobs: &[Vec<String>]) -> Result<(), String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(log) = run(compiler, job) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(log);
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn run(compiler: &Compiler, arguments: &[String]) -> Result<(), String> {
    let output = compiler.command().args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{} {}` failed:\n{}", compiler.line, arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
}
