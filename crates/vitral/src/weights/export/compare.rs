//! Differences between two configurations.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::weights::error::Difference;

/// Fields that say how a library treats a model, not what the model is.
const BEHAVIOR: [&str; 3] = ["other_sizes", "relative_resample", "drop"];

/// The names of all fields of a configuration, also of those that are left out where they have their usual value.
pub(super) fn fields() -> &'static [&'static str] {
    /// Takes down what it is asked for, and gives nothing.
    struct Asked<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Asked<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("nothing"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            Err(Error::custom("nothing"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    // The answer is what was asked for.
    let _ = ModelConfig::deserialize(Asked(&mut names));
    names
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_by_name() {
        for field in ["norm_epsilon", "activation", "pre_logits", "rotary", "problem", "other_sizes"] {
            assert!(fields().contains(&field), "{field} among {:?}", fields());
        }
        assert!(!fields().contains(&"foo"));
    }
}
