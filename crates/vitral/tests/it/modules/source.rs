//! The modules of a crate, and what each of them defines, imports and names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A path as written: its segments without `::`.
pub(crate) type Named = Vec<String>;

/// One `use`, flattened: what it imports, under which name.
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Named,
    /// Whether it is re-exported.
    pub(crate) shown: bool,
}

/// One module, in its own file or inside another's.
#[derive(Default)]
pub(crate) struct Module {
    pub(crate) path: Named,
    /// The file, relative to the crate's `src`.
    pub(crate) file: String,
    pub(crate) defined: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    /// Modules or enums imported with a glob.
    pub(crate) globs: Vec<Named>,
    /// Paths of two or more segments outside `use`.
    pub(crate) paths: BTreeSet<Named>,
    /// Every name outside `use` that is not a method or a field after a dot.
    pub(crate) words: BTreeSet<String>,
    /// Methods of a type from an `impl` without a trait.
    pub(crate) methods: Vec<(Named, String)>,
}

/// All modules of a crate by path; the root's path is empty. Tests are left out.
pub(crate) type Modules = BTreeMap<Named, Module>;

const ITEMS: &[&str] = &["fn", "struct", "enum", "union", "trait", "type", "const", "static"];
const KEYWORDS: &[&str] = &["fn", "unsafe", "extern", "async", "mut", "_"];

/// Reads the crate whose sources are in `folder`, following its `mod` lines.
pub(crate) fn read(folder: &Path) -> Modules {
    let root = ["lib.rs", "main.rs"].into_iter().find(|name| folder.join(name).exists()).expect("a crate's root");
    let mut reader = Reader { folder, modules: Modules::new() };
    reader.file(Vec::new(), Path::new(root), Path::new(""));
    reader.modules
}

struct Reader<'a> {
    folder: &'a Path,
    modules: Modules,
}

impl Reader<'_> {
    /// `children` is the folder with the files of child modules.
    fn file(&mut self, path: Named, file: &Path, children: &Path) {
        let text = std::fs::read_to_string(self.folder.join(file)).expect("a source");
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("`{}`: {error}", file.display()));
        self.module(path, &file.to_string_lossy().replace('\\', "/"), children, tokens);
    }

    fn module(&mut self, path: Named, file: &str, children: &Path, tokens: TokenStream) {
        let mut module = Module { path: path.clone(), file: file.into(), ..Module::default() };
        let trees = without_tests(tokens);
        let mut at = 0;
        while at < trees.len() {
            let word = ident(trees.get(at));
            let next = ident(trees.get(at + 1));
            match (word.as_deref(), next) {
                (Some("mod"), Some(name)) => {
                    let child = [path.clone(), vec![name.clone()]].concat();
                    if let Some(TokenTree::Group(body)) = trees.get(at + 2) {
                        self.module(child, file, &children.join(&name), body.stream());
                    } else {
                        let beside = children.join(format!("{name}.rs"));
                        let inside = children.join(&name).join("mod.rs");
                        let source = if self.folder.join(&beside).exists() { beside } else { inside };
                        self.file(child, &source, &children.join(&name));
                    }
                    at += 3;
                }
                (Some("impl"), _) => {
                    at += 1;
                    let end = at + trees[at..].iter().position(|tree| braces(tree).is_some()).expect("an impl's body");
                    implementation(&mut module, &trees[at..end], braces(&trees[end]).expect("a body"));
                    at = end + 1;
                }
                (Some(keyword), Some(name)) if ITEMS.contains(&keyword) && !KEYWORDS.contains(&name.as_str()) => {
                    module.defined.insert(name);
                    at += 2;
                }
                (Some("macro_rules"), _) => {
                    module.defined.extend(ident(trees.get(at + 2)));
                    at += 3;
                }
                _ => at = step(&mut module, &trees, at, None),
            }
        }
        self.modules.insert(path, module);
    }
}

/// An `impl`: its head, with a type and possibly a trait, and its body.
fn implementation(module: &mut Module, head: &[TokenTree], body: &Group) {
    scan(module, head, None);
    let mut start = 0;
    if punct(head.first()) == Some('<') {
        let mut depth = 0;
        for (at, tree) in head.iter().enumerate() {
            match punct(Some(tree)) {
                Some('<') => depth += 1,
                Some('>') if at == 0 || punct(head.get(at - 1)) != Some('-') => depth -= 1,
                _ => {}
            }
            start = at + 1;
            if depth == 0 {
                break;
            }
        }
    }
    let of_trait = head.iter().position(|tree| ident(Some(tree)).as_deref() == Some("for"));
    let first = of_trait.map_or(start, |at| at + 1);
    let owner = segments(head, first).0;
    let trees = without_tests(body.stream());
    if of_trait.is_none() {
        for pair in trees.windows(2) {
            if let (Some("fn" | "const"), Some(name)) = (ident(pair.first()).as_deref(), ident(pair.get(1))) {
                module.methods.push((owner.clone(), name));
            }
        }
    }
    scan(module, &trees, Some(&owner));
}

fn scan(module: &mut Module, trees: &[TokenTree], owner: Option<&Named>) {
    let mut at = 0;
    while at < trees.len() {
        at = step(module, trees, at, owner);
    }
}

/// Processes the token at `at` and returns the index of the next. `owner` is what `Self` refers to.
fn step(module: &mut Module, trees: &[TokenTree], at: usize, owner: Option<&Named>) -> usize {
    if let TokenTree::Group(group) = &trees[at] {
        scan(module, &without_tests(group.stream()), owner);
        return at + 1;
    }
    let Some(word) = ident(trees.get(at)) else { return at + 1 };
    // The visibility of an item does not use what it names.
    if word == "pub" && matches!(trees.get(at + 1), Some(TokenTree::Group(group)) if limits_sight(group)) {
        return at + 2;
    }
    if word == "use" && punct(trees.get(at + 1)) != Some('<') {
        let end = at + trees[at..].iter().position(|tree| punct(Some(tree)) == Some(';')).expect("the end of a `use`");
        let shown = match at.checked_sub(1).map(|before| &trees[before]) {
            Some(TokenTree::Ident(before)) => before == "pub",
            Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Parenthesis,
            _ => false,
        };
        import(module, &trees[at + 1..end], Vec::new(), shown);
        return end + 1;
    }
    let before = at.checked_sub(1).and_then(|before| punct(trees.get(before)));
    if before == Some('.') {
        return at + 1;
    }
    let (mut path, end) = segments(trees, at);
    // `::name` after a type in angle brackets, or an external path.
    if before != Some(':') || !colons(trees, at.wrapping_sub(2)) {
        module.words.insert(word.clone());
        match (owner, path[0].as_str()) {
            (Some(owner), "Self") => path.splice(0..1, owner.iter().cloned()).for_each(drop),
            (Some(owner), "self") if path.len() == 1 && punct(trees.get(end)) == Some('.') => {
                if let Some(method) = ident(trees.get(end + 1)) {
                    module.paths.insert([owner.clone(), vec![method]].concat());
                }
            }
            _ => {}
        }
        if path.len() > 1 {
            module.paths.insert(path);
        }
    }
    end
}

fn limits_sight(group: &Group) -> bool {
    let first = ident(group.stream().into_iter().next().as_ref());
    matches!(first.as_deref(), Some("crate" | "super" | "self" | "in"))
}

/// The path that begins at `at`, and its end.
fn segments(trees: &[TokenTree], mut at: usize) -> (Named, usize) {
    let mut path = Vec::new();
    while let Some(name) = ident(trees.get(at)) {
        path.push(name);
        at += 1;
        if !colons(trees, at) || ident(trees.get(at + 2)).is_none() {
            break;
        }
        at += 2;
    }
    (path, at)
}

/// One branch of a `use`, below `prefix`.
fn import(module: &mut Module, trees: &[TokenTree], prefix: Named, shown: bool) {
    for branch in trees.split(|tree| punct(Some(tree)) == Some(',')) {
        let mut path = prefix.clone();
        let mut name = None;
        let mut at = 0;
        while let Some(tree) = branch.get(at) {
            match tree {
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    import(module, &inner, std::mem::take(&mut path), shown);
                }
                TokenTree::Ident(word) if word == "as" => {
                    name = ident(branch.get(at + 1));
                    at += 1;
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(mark) if mark.as_char() == '*' => module.globs.push(std::mem::take(&mut path)),
                _ => {}
            }
            at += 1;
        }
        if let Some(last) = path.last() {
            module.imports.push(Import { name: name.unwrap_or_else(|| last.clone()), path, shown });
        }
    }
}

/// The same tokens without test-only items, doc comments and lints.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut trees = tokens.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let attribute = match (punct(Some(&tree)), trees.peek()) {
            (Some('#'), Some(TokenTree::Group(group))) => Some(group.stream().to_string().replace(' ', "")),
            _ => None,
        };
        match attribute {
            Some(text) if text == "cfg(test)" || text == "test" || text.starts_with("cfg(all(test") => {
                trees.next();
                let mut is_use = false;
                for skipped in trees.by_ref() {
                    is_use |= matches!(&skipped, TokenTree::Ident(word) if word == "use");
                    if punct(Some(&skipped)) == Some(';') || (!is_use && braces(&skipped).is_some()) {
                        break;
                    }
                }
            }
            // Doc comments and lints do not name items.
            Some(text) if text.starts_with("doc") || text.starts_with("allow") || text.starts_with("expect") => {
                trees.next();
            }
            _ => kept.push(tree),
        }
    }
    kept
}

fn ident(tree: Option<&TokenTree>) -> Option<String> {
    match tree {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    }
}

fn punct(tree: Option<&TokenTree>) -> Option<char> {
    match tree {
        Some(TokenTree::Punct(mark)) => Some(mark.as_char()),
        _ => None,
    }
}

fn colons(trees: &[TokenTree], at: usize) -> bool {
    let joint = matches!(trees.get(at), Some(TokenTree::Punct(mark)) if mark.spacing() == Spacing::Joint);
    joint && punct(trees.get(at)) == Some(':') && punct(trees.get(at + 1)) == Some(':')
}

fn braces(tree: &TokenTree) -> Option<&Group> {
    match tree {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    }
}
