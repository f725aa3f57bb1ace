//! Who may import whom: no circles between modules, and the rooms of each crate.

mod graph;
mod source;

use std::path::{Path, PathBuf};

use graph::{Graph, circles, graph};

const CRATES: [&str; 4] = ["vitral-engine", "vitral", "vitral-train", "vitral-cli"];

/// A room, and the rooms of its crate that it may see.
type Room = (&'static str, &'static [&'static str]);

/// The rooms of each crate. What is not listed joins the others and may see all.
const ROOMS: [(&str, &[Room]); 3] = [
    (
        "vitral",
        &[
            ("config", &[]),
            ("image", &["config"]),
            ("model", &["config"]),
            ("weights", &["atomic", "config", "image", "model", "npy"]),
            ("labels", &["numbers"]),
            ("numbers", &[]),
            ("npy", &[]),
            ("atomic", &[]),
            ("pipeline", &["config", "image"]),
            // Reads what a forward pass shows; never weight files.
            ("explain", &["config", "error", "image", "labels", "load", "model", "numbers", "predict", "trace"]),
        ],
    ),
    (
        "vitral-train",
        &[
            ("error", &[]),
            ("draws", &[]),
            ("labeling", &[]),
            ("loss", &[]),
            ("lora", &["error"]),
            ("optimize", &["error"]),
            ("augment", &["draws", "error", "labeling"]),
            ("step", &["error", "lora", "loss", "optimize"]),
            ("data", &["augment", "draws", "error", "labeling", "step"]),
            ("evaluate", &["data", "error", "loss"]),
            ("journal", &["error"]),
            ("epoch", &["journal", "step"]),
            ("checkpoint", &["epoch", "error", "step"]),
            ("fit", &["checkpoint", "epoch", "error", "journal", "step"]),
            ("recipe", &["augment", "data", "error", "lora", "loss", "optimize"]),
            ("report", &["data", "error", "evaluate", "journal"]),
            ("study", &["error", "journal", "report"]),
        ],
    ),
    (
        "vitral-cli",
        &[
            ("architecture", &[]),
            ("download", &[]),
            ("fault", &[]),
            ("outcome", &[]),
            ("output", &[]),
            ("sparkline", &[]),
            ("settings", &["download", "fault"]),
            ("printer", &["fault", "settings"]),
            ("inputs", &["fault", "outcome", "printer", "settings"]),
            ("follow", &["fault", "outcome", "printer", "settings", "sparkline"]),
            (
                "commands",
                &["architecture", "download", "fault", "follow", "inputs", "outcome", "output", "printer", "settings"],
            ),
        ],
    ),
];

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")
}

/// Every source below a folder, from that folder.
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
    assert!(graph.len() > 20, "`{name}` has {} files", graph.len());
    graph
}

/// The part of a file's path before the first folder ends: `image` for `image/mod.rs`, `image.rs` and `image/rgb.rs`.
fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

#[test]
fn every_source_is_seen() {
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
fn modules_form_no_circles() {
    let mut faults = Vec::new();
    for name in CRATES {
        let graph = uses(name);
        for circle in circles(&graph) {
            faults.push(format!("`{name}`: a circle of {} files", circle.len()));
            for file in &circle {
                for (other, paths) in graph[file].iter().filter(|(other, _)| circle.contains(*other)) {
                    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
                    faults.push(format!("    {file} → {other}: {}", paths.join(", ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rooms_see_only_what_they_may() {
    let mut faults = Vec::new();
    for (name, rooms) in ROOMS {
        for (file, others) in uses(name) {
            let Some((own, allowed)) = rooms.iter().find(|(own, _)| *own == room(&file)) else { continue };
            for (other, paths) in others {
                let seen = room(&other);
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

/// What commands share lies beside them, never in one of them.
#[test]
fn commands_do_not_see_each_other() {
    let command = |file: &str| {
        let name = room(file.strip_prefix("commands/")?).to_owned();
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

/// Files of a made-up crate whose circles are looked for.
fn found(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in sources {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    circles(&graph(&source::read(folder.path()))).into_iter().map(|circle| circle.into_iter().collect()).collect()
}

#[test]
fn circles_are_found_however_they_are_written() {
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
    // A type whose own file calls what another file adds to it.
    let added = [
        ("a.rs", "pub struct A; impl A { fn f(&self) { self.g() } }"),
        ("b.rs", "impl crate::a::A { pub fn g(&self) {} }"),
    ];
    assert_eq!(found(&[root, added[0], added[1]]), both);
}

#[test]
fn what_is_no_circle_is_none() {
    let root = ("lib.rs", "mod a;\nmod b;");
    let tests = "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }";
    assert!(found(&[root, ("a.rs", "use crate::b::B; pub struct A(B);"), ("b.rs", tests)]).is_empty());
    // A parent that shows on what its child defines, to another child too.
    let parent = ("a.rs", "mod x;\nmod y;\npub use x::X;");
    let child = ("a/y.rs", "use super::X; pub struct Y(X);");
    assert!(found(&[("lib.rs", "mod a;"), parent, ("a/x.rs", "pub struct X;"), child]).is_empty());
    // But one that uses it, where the child uses what the parent defines.
    let parent = ("a.rs", "mod x;\npub use x::X; pub struct A; fn f(x: X) {}");
    assert_eq!(found(&[("lib.rs", "mod a;"), parent, ("a/x.rs", "use super::A; pub struct X(A);")]).len(), 1);
}
