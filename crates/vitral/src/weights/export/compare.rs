//! Differences between two configurations.

use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::weights::error::Difference;

/// Fields that say how a library treats a model, not what the model is.
const BEHAVIOR: [&str; 3] = ["other_sizes", "relative_resample", "drop"];

/// A value as it is read aloud.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The fields in which two configurations differ.
pub(super) fn differences(ours: &ModelConfig, theirs: &ModelConfig) -> Vec<Difference> {
    // Through text, which writes 32-bit numbers in their shortest form.
    let fields =
        |config| serde_json::to_string(config).and_then(|text| serde_json::from_str::<Map<String, Value>>(&text));
    let (Ok(ours), Ok(theirs)) = (fields(ours), fields(theirs)) else { return Vec::new() };
    let differs = |(field, value): (&String, &Value)| {
        let other = theirs.get(field).unwrap_or(&Value::Null);
        // LayerScale's value only matters at the start of training.
        let same = value == other || (field == "layer_scale" && value.is_null() == other.is_null());
        // No library says that a projection is not a classifier; the numbers are the same.
        let same = same || (field == "problem" && value == "embedding");
        let behavior = BEHAVIOR.contains(&field.as_str());
        (!same && !behavior).then(|| Difference {
            field: field.clone(),
            ours: words(value),
            // What the files leave out.
            theirs: if field == "problem" && other.is_null() { "single-label".into() } else { words(other) },
        })
    };
    // What a file leaves out is none.
    let absent = theirs.keys().filter(|field| !ours.contains_key(*field)).map(|field| (field, &Value::Null));
    ours.iter().chain(absent).filter_map(differs).collect()
}
