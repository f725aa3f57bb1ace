//! Typed access to the keys of another library's configuration, with errors that name file and key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::{Activation, Size};
use crate::weights::{WeightsError, json};

/// Reads a JSON file.
pub(super) fn read_json(path: &Path) -> Result<Value, WeightsError> {
    let text = std::fs::read(path).map_err(|source| WeightsError::io(path, source))?;
    json::parse(&text).map_err(|error| WeightsError::description(path, format!("not valid JSON: {error}")))
}

/// A JSON object and where it is.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
    /// The keys that lead here, for error messages.
    inside: String,
}

impl<'a> Fields<'a> {
    /// The whole file.
    pub(super) fn new(path: &'a Path, value: &'a Value) -> Result<Self, WeightsError> {
        let map = value.as_object();
        let map = map.ok_or_else(|| WeightsError::description(path, "expected a JSON object, found something else"))?;
        Ok(Fields { path, map, inside: String::new() })
    }

    /// A nested object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, WeightsError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                Ok(Some(Fields { path: self.path, map, inside: format!("{}{key}.", self.inside) }))
            }
            Some(other) => Err(self.expected(key, "an object", other)),
        }
    }

    /// Another object that takes the place of the one under `key`.
    pub(super) fn inside<'b>(&self, key: &str, value: &'b Value) -> Result<Fields<'b>, WeightsError>
    where
        'a: 'b,
    {
        let fields = Fields::new(self.path, value)?;
        Ok(Fields { inside: format!("{}{key}.", self.inside), ..fields })
    }

    /// Whether the key is present and not null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the key is present, if only with null.
    pub(super) fn named(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The object as a JSON value.
    pub(super) fn to_value(&self) -> Value {
        Value::Object(self.map.clone())
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// A value, if present and not null.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A count.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, WeightsError> {
        self.read(key, "a whole number of at most a billion", whole)
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        self.read(key, "a number", Value::as_f64)
    }

    /// A boolean.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// Text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, WeightsError> {
        self.read(key, "text", Value::as_str)
    }

    /// One number for a square, or height and width.
    pub(super) fn size(&self, key: &str) -> Result<Option<Size>, WeightsError> {
        self.read(key, "a number or [height, width]", |value| match value {
            Value::Array(pair) => match pair.as_slice() {
                [height, width] => Some(Size { height: whole(height)?, width: whole(width)? }),
                [side] => Some(Size::square(whole(side)?)),
                _ => None,
            },
            Value::Object(pair) => {
                Some(Size { height: whole(pair.get("height")?)?, width: whole(pair.get("width")?)? })
            }
            side => Some(Size::square(whole(side)?)),
        })
    }

    /// An activation function, by the name used in PyTorch libraries.
    pub(super) fn activation(&self, key: &str) -> Result<Option<Activation>, WeightsError> {
        self.read(key, "one of gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu, tanh", |value| {
            activation(value.as_str()?)
        })
    }

    /// An error about a key.
    pub(super) fn fault(&self, key: &str, fault: impl std::fmt::Display) -> WeightsError {
        WeightsError::description(self.path, format!("`{}{key}`: {fault}", self.inside))
    }

    fn read<T>(&self, key: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, WeightsError> {
        self.value(key).map(|value| read(value).ok_or_else(|| self.expected(key, what, value))).transpose()
    }

    fn expected(&self, key: &str, what: &str, found: &Value) -> WeightsError {
        let mut found = found.to_string();
        if found.len() > 60 {
            found = format!("{}…", found.chars().take(60).collect::<String>());
        }
        self.fault(key, format!("expected {what}, found `{found}`"))
    }
}

/// A count or a side. Larger ones can only be a mistake or an attack, and products of them would overflow.
fn whole(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&count| count <= 1_000_000_000).and_then(|count| usize::try_from(count).ok())
}

/// An activation function, by its names in PyTorch, timm and transformers.
pub(super) fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "gelu" | "GELU" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate" | "gelu_tanh"
        | "GELUTanh" => Activation::GeluTanh,
        "quick_gelu" | "QuickGELU" => Activation::QuickGelu,
        "relu" | "ReLU" => Activation::Relu,
        "silu" | "swish" | "SiLU" => Activation::Silu,
        "tanh" | "Tanh" => Activation::Tanh,
        _ => return None,
    })
}
