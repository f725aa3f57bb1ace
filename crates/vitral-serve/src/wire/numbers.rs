//! The `data` of a tensor in JSON: numbers or texts, in one list or in lists of lists.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

/// The most texts in a list: in memory, each takes many times its bytes.
const MOST_TEXTS: usize = 1 << 16;

/// Elements in row-major order.
#[derive(Debug, PartialEq)]
pub(crate) enum Elements {
    Numbers(Vec<f32>),
    Texts(Vec<String>),
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Found::default();
        deserializer.deserialize_seq(Into(&mut found))?;
        match (found.numbers.is_empty(), found.texts.is_empty()) {
            (_, true) => Ok(Elements::Numbers(found.numbers)),
            (true, false) => Ok(Elements::Texts(found.texts)),
            (false, false) => Err(D::Error::custom("expected numbers or strings in `data`, found both")),
        }
    }
}

#[derive(Default)]
struct Found {
    numbers: Vec<f32>,
    texts: Vec<String>,
}

/// Puts what it visits at the end of what was found.
struct Into<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers or of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Into(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.0.numbers.push(number as f32);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.numbers.push(number as f32);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.0.numbers.push(number as f32);
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.0.texts.len() == MOST_TEXTS {
            return Err(E::custom(format!("expected at most {MOST_TEXTS} strings in `data`, found more")));
        }
        self.0.texts.push(text.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_lists_are_flattened() {
        let read = |text| serde_json::from_str::<Elements>(text);
        assert_eq!(read("[[1, 2.5], [-3, 1e-3]]").expect("numbers"), Elements::Numbers(vec![1.0, 2.5, -3.0, 1e-3]));
        assert_eq!(read(r#"["a", ["b"]]"#).expect("texts"), Elements::Texts(vec!["a".into(), "b".into()]));
        assert_eq!(read("[]").expect("nothing"), Elements::Numbers(vec![]));
        for wrong in ["1", r#"[1, "a"]"#, "[null]", "[{}]", "[true]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
