//! Which layers and heads a run looks at, and which maps that makes.

use anyhow::anyhow;
use vitral::Model;
use vitral::explain::{Method, Options, attention};

use crate::fault::Usage;

/// One map to make: a method in one layer and head.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Its name in files and results: that of the method, with the layer and head if there are several.
    pub(super) name: String,
    pub(super) method: Method,
    /// The layer and head in words; empty if none was named.
    pub(super) place: String,
    pub(super) options: Options,
}

/// The layers or heads that were named, numbered from 0; empty if none was.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) layers: Vec<usize>,
    pub(super) heads: Vec<usize>,
}

impl Places {
    /// Resolves what was given: numbers from 0, or from the end if negative. A repeated number counts once.
    ///
    /// # Errors
    /// If there is no such layer or head.
    pub(super) fn of(layers: &[i64], heads: &[i64], model: &Model) -> anyhow::Result<Self> {
        // A model without attention has neither, which its own error says.
        let depth = model.vit().config().depth;
        let mut options = Options::default();
        options.layer = layers.first().map(|_| 0);
        options.head = heads.first().map(|_| 0);
        options.check(model)?;
        let resolve = |what: &str, given: &[i64], count: usize, each: &str| -> anyhow::Result<Vec<usize>> {
            let mut found = Vec::with_capacity(given.len());
            for &asked in given {
                let place = resolved(asked, count).ok_or_else(|| {
                    anyhow!(Usage(format!(
                        "`--{what} {asked}`: expected 0 to {last}, or -1 to -{count} from the end; the model `{}` has \
                         {what}s 0 to {last}{each}",
                        model.name(),
                        last = count - 1,
                    )))
                })?;
                if !found.contains(&place) {
                    found.push(place);
                }
            }
            Ok(found)
        };
        Ok(Places {
            layers: resolve("layer", layers, depth, ", from the input to the output")?,
            heads: resolve("head", heads, attention::heads(model), " in each layer")?,
        })
    }

    /// The maps that a method makes.
    pub(super) fn of_method(&self, method: Method, options: &Options) -> Vec<Planned> {
        let some = |used: bool, places: &[usize]| -> Vec<Option<usize>> {
            if used && !places.is_empty() { places.iter().copied().map(Some).collect() } else { vec![None] }
        };
        let layers = some(method.uses_layer(), &self.layers);
        let heads = some(method.uses_head(), &self.heads);
        let several = layers.len() * heads.len() > 1;
        let mut planned = Vec::with_capacity(layers.len() * heads.len());
        for &layer in &layers {
            for &head in &heads {
                let mut options = *options;
                (options.layer, options.head) = (layer, head);
                let parts = |separator: &str, between: &str| -> Vec<String> {
                    let named = [("layer", layer), ("head", head)];
                    let part = |(what, place): (&str, Option<usize>)| {
                        place.map(|place| format!("{separator}{what}{between}{place}"))
                    };
                    named.into_iter().filter_map(part).collect()
                };
                let suffix = if several { parts("-", "").concat() } else { String::new() };
                let name = format!("{}{suffix}", method.name());
                planned.push(Planned { name, method, place: parts("", " ").join(", "), options });
            }
        }
        planned
    }
}

/// A number from 0, or from the end if negative, below `count`.
fn resolved(asked: i64, count: usize) -> Option<usize> {
    let place = if asked < 0 { asked.checked_add(i64::try_from(count).ok()?)? } else { asked };
    usize::try_from(place).ok().filter(|&place| place < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_numbers_count_from_the_end() {
        assert_eq!([0, 11, -1, -12].map(|asked| resolved(asked, 12)), [Some(0), Some(11), Some(11), Some(0)]);
        assert_eq!([12, -13, i64::MIN, i64::MAX].map(|asked| resolved(asked, 12)), [None; 4]);
    }

    #[test]
    fn several_maps_of_a_method_are_named_by_their_places() {
        let names = |places: &Places, method: Method| -> Vec<String> {
            places.of_method(method, &Options::default()).into_iter().map(|planned| planned.name).collect()
        };
        let one = Places { layers: vec![3], heads: vec![1] };
        assert_eq!(names(&one, Method::Attention), ["attention"]);
        assert_eq!(one.of_method(Method::Attention, &Options::default())[0].place, "layer 3, head 1");
        let several = Places { layers: vec![3], heads: vec![0, 5] };
        assert_eq!(names(&several, Method::Attention), ["attention-layer3-head0", "attention-layer3-head5"]);
        assert_eq!(names(&several, Method::GradCam), ["gradcam"]);
        assert_eq!(names(&several, Method::Rollout), ["rollout"]);
        let layers = Places { layers: vec![3, 7], heads: vec![] };
        assert_eq!(names(&layers, Method::GradCam), ["gradcam-layer3", "gradcam-layer7"]);
    }
}
