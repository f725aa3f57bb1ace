//! What is wrong with a recipe, in a user's words.

use std::path::Path;

use toml::{Table, Value};
use vitral::config::ModelConfig;
use vitral::image::Format;

use super::Recipe;

/// Tables in which a key that stands elsewhere is looked for.
const SECTIONS: [&[&str]; 11] = [
    &["model"],
    &["data"],
    &["data", "validation_split"],
    &["augment"],
    &["augment", "color_jitter"],
    &["augment", "erasing"],
    &["augment", "mixing"],
    &["optimizer"],
    &["schedule"],
    &["groups"],
    &["run"],
];

/// What is before the name of a key that does not exist.
const UNKNOWN: &str = "unknown field `";

/// The recipe in a table.
///
/// # Errors
/// What is wrong, with the key.
pub(super) fn read(table: Table) -> Result<Recipe, String> {
    deserialized(table.clone()).map_err(|(key, problem)| {
        let unknown = problem.strip_prefix(UNKNOWN).and_then(|rest| rest.split_once('`'));
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let section: Vec<&str> = section.split('.').filter(|part| !part.is_empty()).collect();
        match unknown.map(|(name, _)| elsewhere(&table, &section, name)) {
            Some(places) if !places.is_empty() => {
                format!("no such key `{key}`; did you mean `{}`?", places.join("` or `"))
            }
            _ if key == "." => plain(&problem),
            _ => format!("`{key}`: {}", plain(&problem)),
        }
    })
}

/// The recipe, or the key and what is wrong there.
fn deserialized(table: Table) -> Result<Recipe, (String, String)> {
    serde_path_to_error::deserialize(Value::Table(table))
        .map_err(|error| (error.path().to_string(), error.into_inner().message().trim_end().to_owned()))
}

/// Keys of this name in other tables than the one where it was given, with their tables' names.
fn elsewhere(table: &Table, given: &[&str], name: &str) -> Vec<String> {
    let mut rest = table.clone();
    let Some(value) = inner(&mut rest, given).and_then(|section| section.remove(name)) else { return Vec::new() };
    let place_in = |section: &[&str]| [section, &[name]].concat().join(".");
    let known = |section: &&[&str]| {
        let mut tried = rest.clone();
        let place = place_in(section);
        let Some(section) = inner(&mut tried, section) else { return false };
        section.insert(name.to_owned(), value.clone());
        match deserialized(tried) {
            Ok(_) => true,
            // A value of the wrong kind is at a key that exists.
            Err((key, problem)) => key == place && !problem.starts_with(UNKNOWN),
        }
    };
    let sections = SECTIONS.into_iter().filter(|section| *section != given).filter(known);
    let mut places: Vec<String> = sections.map(place_in).collect();
    let of_models = Table::try_from(ModelConfig::default()).is_ok_and(|model| model.contains_key(name));
    if of_models && given != ["model", "set"] {
        places.push(format!("model.set.{name}"));
    }
    places
}

/// A table in a table, made where it is not there; `None` if something else is.
fn inner<'a>(table: &'a mut Table, section: &[&str]) -> Option<&'a mut Table> {
    section
        .iter()
        .try_fold(table, |table, &name| table.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut())
}

/// A message of the parser without the names of types.
fn plain(problem: &str) -> String {
    let Some((found, expected)) = problem.rsplit_once(", expected ") else { return problem.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "path string" | "string" => "a text",
        "a sequence" => "a list",
        structure if structure.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// What a file is that is no text.
pub(super) fn no_text(path: &Path, bytes: &[u8]) -> String {
    let found = match Format::of(bytes) {
        _ if path.is_dir() => "a folder".to_owned(),
        Some(format) => format!("an image ({})", format.name()),
        None => "a file that is no text".to_owned(),
    };
    format!("expected a recipe (a TOML file), found {found}; give the path of one")
}
