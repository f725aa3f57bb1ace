//! Typed access to a JSON object's values, with errors that name the key.

use serde_json::{Map, Value};

use super::super::{Filter, ImageError};
use super::{Channels, Normalize};
use crate::config::Size;
use crate::image::bands::MOST_BANDS;

/// The largest side that a file may request.
const LARGEST_SIDE: u64 = 1 << 15;

/// An object and the name of the file it was read from.
pub(super) struct Fields<'a> {
    pub(super) place: &'static str,
    pub(super) object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(place: &'static str, value: &'a Value) -> Result<Self, ImageError> {
        let object = value.as_object().ok_or_else(|| ImageError::Value {
            place,
            key: "the whole".to_string(),
            expected: "an object".to_string(),
            found: brief(value),
        })?;
        Ok(Fields { place, object })
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn fault(&self, key: &str, expected: &str) -> ImageError {
        ImageError::Value {
            place: self.place,
            key: key.to_string(),
            expected: expected.to_string(),
            found: self.object.get(key).map_or("nothing".to_string(), brief),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, ImageError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.fault(key, "true or false"))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ImageError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.fault(key, "a name"))
    }

    /// A number above zero.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, ImageError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        number.map(Some).ok_or_else(|| self.fault(key, "a number above 0"))
    }

    /// The length of a side, in the value of `key`.
    pub(super) fn side(&self, key: &str, value: &Value) -> Result<usize, ImageError> {
        let length = value.as_u64().filter(|length| (1..=LARGEST_SIDE).contains(length));
        let expected = "a length from 1 to 32768, or an object or list of lengths";
        length.map(|length| length as usize).ok_or_else(|| self.fault(key, expected))
    }

    /// `[height, width]`.
    pub(super) fn pair(&self, key: &str, values: &[Value]) -> Result<Size, ImageError> {
        match values {
            [height, width] => Ok(Size { height: self.side(key, height)?, width: self.side(key, width)? }),
            _ => Err(self.fault(key, "a list of height and width")),
        }
    }

    pub(super) fn filter_number(&self, key: &str, default: Filter) -> Result<Filter, ImageError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let filter = value.as_u64().and_then(Filter::from_pillow);
        let expected = "0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)";
        filter.ok_or_else(|| self.fault(key, expected))
    }

    /// Numbers, one per channel; a single number is used for any number of channels.
    fn numbers(&self, key: &str, default: [f32; 3]) -> Result<Vec<f32>, ImageError> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let expected = "a finite number, or a list with one for each channel";
        let number = |value: &Value| {
            let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
            number.ok_or_else(|| self.fault(key, expected))
        };
        let numbers = match value {
            Value::Array(list) => list.iter().map(number).collect::<Result<Vec<_>, _>>()?,
            lone => vec![number(lone)?; 3],
        };
        if (1..=MOST_BANDS).contains(&numbers.len()) { Ok(numbers) } else { Err(self.fault(key, expected)) }
    }

    /// Mean and standard deviation, and the channels they apply to.
    pub(super) fn normalize(
        &self,
        mean_key: &str,
        std_key: &str,
        default: ([f32; 3], [f32; 3]),
    ) -> Result<(Normalize, Channels), ImageError> {
        let mean = self.numbers(mean_key, default.0)?;
        let std = self.numbers(std_key, default.1)?;
        if mean.len() != std.len() {
            return Err(self.fault(std_key, &format!("as long as `{mean_key}`, {}", mean.len())));
        }
        if std.contains(&0.0) {
            return Err(self.fault(std_key, "without a zero"));
        }
        let channels = Channels::of_count(mean.len());
        Ok((Normalize { mean, std }, channels))
    }
}

/// A value, shortened to a readable length.
pub(super) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
