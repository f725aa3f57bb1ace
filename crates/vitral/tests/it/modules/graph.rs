//! Which file uses what from which other file, and the cycles among them.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Module, Modules, Named};

/// What each file uses from each other file: the paths as written.
pub(crate) type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a path refers to.
enum Place<'a> {
    Module(&'a Module),
    /// An item, with the module that defines it and the following path segment (an enum's variant, a method).
    Item(&'a Module, String, Option<String>),
}

/// Every file of a crate, with what it uses from the others.
pub(crate) fn graph(modules: &Modules) -> Graph {
    let resolver = Resolver { modules, methods: methods(modules) };
    let mut graph = Graph::new();
    for module in modules.values() {
        graph.entry(module.file.clone()).or_default();
        for (file, path) in resolver.uses(module) {
            if file != module.file {
                graph.entry(module.file.clone()).or_default().entry(file).or_default().insert(path);
            }
        }
    }
    graph
}

/// Files of methods that are in another file than their type: by the type's module, its name and the method's.
type Methods = BTreeMap<(Named, String, String), BTreeSet<String>>;

fn methods(modules: &Modules) -> Methods {
    let resolver = Resolver { modules, methods: Methods::new() };
    let mut found = Methods::new();
    for module in modules.values() {
        for (owner, method) in &module.methods {
            if let Some(Place::Item(home, name, None)) = resolver.place(module, owner, 0) {
                found.entry((home.path.clone(), name, method.clone())).or_default().insert(module.file.clone());
            }
        }
    }
    found
}

struct Resolver<'a> {
    modules: &'a Modules,
    methods: Methods,
}

impl<'a> Resolver<'a> {
    /// Files that a module uses, each with the path it uses. Items that are only re-exported are not used.
    fn uses(&self, module: &'a Module) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for import in &module.imports {
            if import.shown && !module.words.contains(&import.name) {
                continue;
            }
            // A module's name alone does not use anything; the paths that begin with it do.
            if let Some(Place::Item(home, name, rest)) = self.place(module, &import.path, 0) {
                self.add(&mut found, home, name, rest, &import.path);
            }
        }
        for path in &module.paths {
            match self.place(module, path, 0) {
                Some(Place::Item(home, name, rest)) => self.add(&mut found, home, name, rest, path),
                Some(Place::Module(home)) if path[0] != "pub" => found.push((home.file.clone(), path.join("::"))),
                _ => {}
            }
        }
        for glob in &module.globs {
            for word in module.words.iter().filter(|word| !module.defined.contains(*word)) {
                let path = [glob.clone(), vec![word.clone()]].concat();
                if let Some(Place::Item(home, name, rest)) = self.place(module, &path, 0)
                    && (home.defined.contains(word) || rest.is_some())
                {
                    self.add(&mut found, home, name, rest, &path);
                }
            }
        }
        found
    }

    fn add(&self, found: &mut Vec<(String, String)>, home: &Module, name: String, rest: Option<String>, path: &Named) {
        let method = rest.and_then(|rest| self.methods.get(&(home.path.clone(), name, rest)));
        for file in method.into_iter().flatten().chain([&home.file]) {
            found.push((file.clone(), path.join("::")));
        }
    }

    /// What a path written in `module` refers to; `None` if it is outside the crate.
    fn place(&self, module: &'a Module, path: &[String], depth: usize) -> Option<Place<'a>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.below(self.modules.get(&Vec::new())?, rest, depth),
            "self" => self.below(module, rest, depth),
            "super" => self.below(self.modules.get(&module.path[..module.path.len().checked_sub(1)?])?, rest, depth),
            name if self.has(module, name) => self.below(module, path, depth),
            _ => None,
        }
    }

    fn has(&self, module: &Module, name: &str) -> bool {
        module.defined.contains(name)
            || module.imports.iter().any(|import| import.name == name)
            || self.child(module, name).is_some()
    }

    fn child(&self, module: &Module, name: &str) -> Option<&'a Module> {
        self.modules.get(&[module.path.clone(), vec![name.to_owned()]].concat())
    }

    fn below(&self, module: &'a Module, path: &[String], depth: usize) -> Option<Place<'a>> {
        let Some((first, rest)) = path.split_first() else { return Some(Place::Module(module)) };
        if first == "super" {
            return self.place(module, path, depth);
        }
        // Imports cannot refer to each other in a cycle in Rust; the depth limit stops what looks like one here.
        if depth > 16 {
            return None;
        }
        let item = || Some(Place::Item(module, first.clone(), rest.first().cloned()));
        if module.defined.contains(first) {
            return item();
        }
        // If a function and a module have the same name, a path that continues refers to the module.
        let child = self.child(module, first);
        if let Some(child) = child.filter(|_| !rest.is_empty()) {
            return self.below(child, rest, depth);
        }
        if let Some(import) = module.imports.iter().find(|import| import.name == *first) {
            let path = [&import.path, rest].concat();
            // `use name::name` begins at the child or outside, never at itself.
            return match self.child(module, &import.path[0]) {
                Some(child) => self.below(child, &path[1..], depth + 1),
                None if import.path[0] == *first => None,
                None => self.place(module, &path, depth + 1),
            };
        }
        if let Some(child) = child {
            return Some(Place::Module(child));
        }
        for glob in &module.globs {
            if let Some(Place::Item(home, name, rest)) = self.place(module, &[glob, path].concat(), depth + 1)
                && home.defined.contains(&name)
            {
                return Some(Place::Item(home, name, rest));
            }
        }
        item()
    }
}

/// Groups of more than one file that all depend on each other.
pub(crate) fn cycles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|file| (file, reach(graph, file))).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for file in graph.keys() {
        let cycle: BTreeSet<String> =
            reached[file].iter().filter(|other| reached[other].contains(file)).cloned().collect();
        if cycle.len() > 1 && seen.insert(cycle.clone()) {
            found.push(cycle);
        }
    }
    found
}

/// Every file that a file depends on.
fn reach(graph: &Graph, file: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(here) = open.pop() {
        for next in graph[here].keys() {
            if found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found
}
