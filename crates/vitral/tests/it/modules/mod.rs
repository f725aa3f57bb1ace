//! Which modules may import which: no cycles, and the rules for the top-level modules of each crate.

mod graph;
mod source;

use std::path::{Path, PathBuf};

use graph::{Graph, cycles, graph};

const CRATES: [&str; 7] =
    ["vitral-engine", "vitral", "vitral-ranks", "vitral-train", "vitral-serve", "vitral-cli", "vitral-python"];

/// A top-level module, and the top-level modules of its crate that it may use.
type Rule = (&'static str, &'static [&'static str]);

/// The rules of each crate. Modules that are not listed may use everything.
const ALLOWED: [(&str, &[Rule]); 5] = [
    (
        "vitral",
        &[
            ("config", &[]),
            ("image", &["config", "npy"]),
            ("model", &["config"]),
            ("weights", &["atomic", "config", "image", "model", "npy"]),
            ("labels", &["config", "numbers"]),
            ("numbers", &[]),
            ("message", &[]),
            ("choice", &[]),
            ("nested", &[]),
            ("npy", &[]),
            ("atomic", &[]),
            ("pipeline", &["config", "image"]),
            ("palette", &[]),
            ("search", &["atomic", "config", "error", "features", "image", "load", "pipeline", "weights"]),
            ("text", &["config", "error", "model", "weights"]),
            ("tiles", &["config", "error", "features", "image", "labels", "load", "predict"]),
            ("onnx", &["atomic", "config", "image", "model", "weights"]),
            // Reads intermediates of the forward pass; never weight files.
            (
                "explain",
                &[
                    "config", "error", "image", "labels", "load", "model", "numbers", "palette", "predict", "tiles",
                    "trace",
                ],
            ),
        ],
    ),
    (
        "vitral-train",
        &[
            ("error", &[]),
            ("draws", &[]),
            ("labeling", &[]),
            ("loss", &[]),
            ("hidden", &["draws"]),
            ("lora", &["error"]),
            ("optimize", &["error"]),
            ("augment", &["draws", "error", "labeling"]),
            ("shares", &["error"]),
            ("ranks", &["error"]),
            ("exchange", &["error", "ranks"]),
            ("step", &["error", "exchange", "lora", "loss", "optimize", "ranks", "shares"]),
            ("fits", &["error", "step"]),
            ("data", &["augment", "draws", "error", "labeling", "shares", "step"]),
            ("evaluate", &["data", "error", "labeling", "loss", "optimize", "ranks", "step"]),
            ("journal", &["error"]),
            ("epoch", &["journal", "step"]),
            ("checkpoint", &["epoch", "error", "step"]),
            ("fit", &["checkpoint", "epoch", "error", "journal", "ranks", "step"]),
            ("balance", &["data", "error", "labeling"]),
            ("recipe", &["augment", "balance", "data", "error", "hidden", "lora", "loss", "optimize"]),
            ("report", &["balance", "data", "error", "evaluate", "journal"]),
            ("curate", &["evaluate", "report"]),
            ("study", &["error", "journal", "report"]),
        ],
    ),
    (
        "vitral-serve",
        &[
            ("fault", &[]),
            ("error", &[]),
            ("options", &[]),
            ("source", &[]),
            ("budget", &[]),
            ("connection", &[]),
            ("turns", &[]),
            ("pace", &[]),
            ("process", &[]),
            ("metrics", &["process"]),
            ("keys", &["fault"]),
            ("protocol", &["fault"]),
            ("wire", &["fault"]),
            ("job", &["fault"]),
            ("batcher", &["job"]),
            ("queue", &["batcher", "job"]),
            ("decoder", &["fault", "job", "metrics", "queue"]),
            ("worker", &["batcher", "fault", "job", "metrics", "pace", "queue", "turns"]),
            // A loaded model knows nothing of protocols.
            (
                "runner",
                &[
                    "batcher", "decoder", "fault", "job", "metrics", "options", "pace", "queue", "texts", "turns",
                    "worker",
                ],
            ),
            ("texts", &["fault", "job", "turns"]),
            ("registry", &["fault", "metrics", "options", "runner", "source", "turns"]),
            ("app", &["budget", "fault", "keys", "metrics", "options", "registry", "runner", "source"]),
            ("body", &["app", "budget", "fault"]),
            ("trace", &["app", "fault"]),
        ],
    ),
    (
        "vitral-python",
        &[
            ("faults", &[]),
            ("interrupt", &[]),
            ("log", &["interrupt"]),
            ("sources", &["faults"]),
            ("answers", &["faults"]),
            ("device", &["faults", "interrupt", "log"]),
            ("loaded", &["faults", "interrupt", "log"]),
            ("stream", &["answers", "faults", "interrupt", "loaded", "log", "sources"]),
            ("explain", &["answers", "device", "faults", "interrupt", "loaded", "sources"]),
            ("measure", &["answers", "device", "faults", "interrupt", "loaded", "log"]),
            ("tools", &["answers", "device", "faults", "interrupt", "loaded", "log"]),
            ("finetune", &["answers", "device", "faults", "interrupt", "loaded", "log"]),
            ("texts", &["answers", "device", "faults", "interrupt", "loaded"]),
        ],
    ),
    (
        "vitral-cli",
        &[
            ("architecture", &[]),
            ("download", &[]),
            ("fault", &[]),
            ("outcome", &[]),
            ("pool", &[]),
            ("interrupt", &[]),
            ("hints", &[]),
            ("labels", &["fault"]),
            ("run_args", &["fault"]),
            ("output", &["fault"]),
            ("sparkline", &[]),
            ("settings", &["download", "fault", "labels"]),
            ("printer", &["fault", "settings"]),
            ("progress", &["printer"]),
            ("inputs", &["fault", "outcome", "printer", "settings"]),
            ("follow", &["fault", "interrupt", "outcome", "printer", "settings", "sparkline"]),
            (
                "commands",
                &[
                    "architecture",
                    "download",
                    "fault",
                    "follow",
                    "inputs",
                    "interrupt",
                    "labels",
                    "outcome",
                    "output",
                    "pool",
                    "printer",
                    "progress",
                    "run_args",
                    "settings",
                    "tiles",
                ],
            ),
        ],
    ),
];

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")
}

/// Every source file below a folder, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(here).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(folder).expect("below the folder").to_path_buf());
            }
        }
    }
    found
}

fn uses(name: &str) -> Graph {
    let graph = graph(&source::read(&sources(name)));
    assert!(graph.len() > 10, "`{name}` has {} files", graph.len());
    graph
}

/// The top-level module of a file: `image` for `image/mod.rs`, `image.rs` and `image/rgb.rs`.
fn top_module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

#[test]
fn every_source_is_read() {
    for name in CRATES {
        let (graph, folder) = (uses(name), sources(name));
        let files = files(&folder);
        let texts: Vec<_> =
            files.iter().map(|file| std::fs::read_to_string(folder.join(file)).expect("text")).collect();
        for file in &files {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let of_tests = ["mod", "pub(crate) mod"].map(|word| format!("#[cfg(test)]\n{word} {stem};"));
            let only_tests = texts.iter().any(|text| of_tests.iter().any(|line| text.contains(line)));
            let file = file.to_string_lossy().replace('\\', "/");
            assert!(only_tests || graph.contains_key(&file), "`{name}`: no `mod` line leads to {file}");
        }
    }
}

#[test]
fn modules_form_no_cycles() {
    let mut faults = Vec::new();
    for name in CRATES {
        let graph = uses(name);
        for cycle in cycles(&graph) {
            faults.push(format!("`{name}`: a cycle of {} files", cycle.len()));
            for file in &cycle {
                for (other, paths) in graph[file].iter().filter(|(other, _)| cycle.contains(*other)) {
                    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
                    faults.push(format!("    {file} → {other}: {}", paths.join(", ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn modules_use_only_what_they_may() {
    let mut faults = Vec::new();
    for (name, rules) in ALLOWED {
        for (file, others) in uses(name) {
            let Some((own, allowed)) = rules.iter().find(|(own, _)| *own == top_module(&file)) else { continue };
            for (other, paths) in others {
                let seen = top_module(&other);
                if seen != *own && !allowed.contains(&seen) {
                    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
                    faults.push(format!(
                        "`{name}`: {file} sees {other} ({}); `{own}` may see {allowed:?}",
                        paths.join(", ")
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Code shared by commands is outside of them, never in one of them.
#[test]
fn commands_do_not_use_each_other() {
    let command = |file: &str| {
        let name = top_module(file.strip_prefix("commands/")?).to_owned();
        (name != "mod").then_some(name)
    };
    for (file, others) in uses("vitral-cli") {
        let Some(own) = command(&file) else { continue };
        for other in others.keys() {
            let same = command(other).is_some_and(|other| other == own);
            assert!(same || !other.starts_with("commands/"), "{file} sees {other}");
        }
    }
}

/// The cycles in a made-up crate.
fn found(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in sources {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    cycles(&graph(&source::read(folder.path()))).into_iter().map(|cycle| cycle.into_iter().collect()).collect()
}

#[test]
fn cycles_are_found_in_any_notation() {
    let root = ("lib.rs", "mod a;\nmod b;");
    let both = [vec!["a.rs".to_owned(), "b.rs".to_owned()]];
    // In `use`, in an expression, in a macro, by a glob, by the module's name.
    for seen in [
        "use crate::a::A; pub struct B(A);",
        "pub struct B; fn b() { let _ = super::a::A; }",
        "pub struct B; fn b() { println!(\"{}\", crate::a::A::NUMBER) }",
        "use crate::a::*; pub struct B(A);",
        "use super::a::{self, other}; pub struct B(a::A);",
    ] {
        assert_eq!(found(&[root, ("a.rs", "use crate::b::B; pub struct A(B);"), ("b.rs", seen)]), both, "{seen}");
    }
    let through = [("lib.rs", "mod a;\nmod b;\npub use a::A;"), ("b.rs", "use crate::A; pub struct B(A);")];
    assert_eq!(found(&[through[0], ("a.rs", "use crate::b::B; pub struct A(B);"), through[1]]), both);
    // A type whose own file calls a method added in another file.
    let added = [
        ("a.rs", "pub struct A; impl A { fn f(&self) { self.g() } }"),
        ("b.rs", "impl crate::a::A { pub fn g(&self) {} }"),
    ];
    assert_eq!(found(&[root, added[0], added[1]]), both);
}

#[test]
fn code_without_cycles_is_accepted() {
    let root = ("lib.rs", "mod a;\nmod b;");
    let tests = "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }";
    assert!(found(&[root, ("a.rs", "use crate::b::B; pub struct A(B);"), ("b.rs", tests)]).is_empty());
    // A parent that re-exports an item of one child, used by another child.
    let parent = ("a.rs", "mod x;\nmod y;\npub use x::X;");
    let child = ("a/y.rs", "use super::X; pub struct Y(X);");
    assert!(found(&[("lib.rs", "mod a;"), parent, ("a/x.rs", "pub struct X;"), child]).is_empty());
    // But a parent that uses the item, if the child uses what the parent defines.
    let parent = ("a.rs", "mod x;\npub use x::X; pub struct A; fn f(x: X) {}");
    assert_eq!(found(&[("lib.rs", "mod a;"), parent, ("a/x.rs", "use super::A; pub struct X(A);")]).len(), 1);
}
