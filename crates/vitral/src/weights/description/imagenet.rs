//! The names of ImageNet's classes, for models that say which of its sets they were trained on but not what the classes are
//! called. The set is known by the weights' own tag or family; a number of classes alone says nothing.

use std::io::Read;
use std::sync::OnceLock;

/// Written by `tools/labels/imagenet.py`; `assets/imagenet/README.md` has its license.
const NAMES: &[u8] = include_bytes!("../../../assets/imagenet/names.deflate");

/// A set of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabelSet {
    /// ImageNet-1k (ILSVRC 2012).
    One,
    /// timm's ImageNet-12k.
    Twelve,
    /// ImageNet-21k as Google has it.
    TwentyOne,
    /// ImageNet-21k as published in autumn 2011, also called 22k.
    TwentyTwo,
    /// MIIL's part of ImageNet-21k.
    Miil,
}

impl LabelSet {
    const ALL: [LabelSet; 5] =
        [LabelSet::One, LabelSet::Twelve, LabelSet::TwentyOne, LabelSet::TwentyTwo, LabelSet::Miil];

    fn classes(self) -> usize {
        match self {
            LabelSet::One => 1000,
            LabelSet::Twelve => 11_821,
            LabelSet::TwentyOne => 21_843,
            LabelSet::TwentyTwo => 21_841,
            LabelSet::Miil => 11_221,
        }
    }

    /// The set that a tag of timm's ends with: `augreg_in21k_ft_in1k` was last trained on ImageNet-1k.
    pub(super) fn of_tag(tag: &str, classes: usize) -> Option<Self> {
        let last = tag.rsplit('_').find(|part| part.starts_with("in") && part.ends_with('k'))?;
        let sets: &[LabelSet] = match last {
            "in1k" => &[LabelSet::One],
            "in12k" => &[LabelSet::Twelve],
            "in21k" | "in22k" => &[LabelSet::TwentyOne, LabelSet::TwentyTwo, LabelSet::Miil],
            _ => &[],
        };
        sets.iter().copied().find(|set| set.classes() == classes)
    }

    /// The set of a file of Google's JAX code, by its name: fine-tuned models name what they were fine-tuned on, and all
    /// others with Google's number of classes are of ImageNet-21k.
    pub(super) fn of_jax(stem: &str, classes: usize) -> Option<Self> {
        let stem = stem.to_ascii_lowercase();
        let one = ["imagenet2012", "ilsvrc2012"].iter().any(|name| stem.contains(name)) || stem.starts_with("bit-s-");
        let set = if one { LabelSet::One } else { LabelSet::TwentyOne };
        Some(set).filter(|set| set.classes() == classes)
    }

    /// The set of one of Meta's original files, by its name: DeiT was trained on ImageNet-1k.
    pub(super) fn of_original(stem: &str, classes: usize) -> Option<Self> {
        Some(LabelSet::One).filter(|set| stem.starts_with("deit_") && set.classes() == classes)
    }

    /// The set of torchvision's weights, by their name.
    pub(super) fn of_torchvision(weights: &str, classes: usize) -> Option<Self> {
        Some(LabelSet::One).filter(|set| weights.starts_with("IMAGENET1K_") && set.classes() == classes)
    }

    /// The names of the classes, in class order.
    pub(super) fn names(self) -> Vec<String> {
        let mark = 1 << LabelSet::ALL.iter().position(|set| *set == self).unwrap_or_default();
        let lines = lines().iter().filter(|(marks, _)| marks & mark != 0);
        lines.map(|(_, name)| name.clone()).collect()
    }
}

/// Whether labels are those of one of the sets, and so are known to whoever knows the model.
pub(crate) fn is_known(labels: &[String]) -> bool {
    LabelSet::ALL.into_iter().any(|set| set.classes() == labels.len() && set.names() == labels)
}

/// The names of all synsets in order, with a mark for each set that has it.
fn lines() -> &'static [(u8, String)] {
    static LINES: OnceLock<Vec<(u8, String)>> = OnceLock::new();
    LINES.get_or_init(|| {
        let mut text = String::new();
        // The file is part of the program, and a test reads it.
        if let Err(fault) = flate2::read::DeflateDecoder::new(NAMES).read_to_string(&mut text) {
            panic!("the names of ImageNet's classes: {fault}");
        }
        let line = |line: &str| Some((u8::from_str_radix(line.get(..2)?, 16).ok()?, line.get(2..)?.to_owned()));
        text.lines().filter_map(line).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_its_names() {
        for set in LabelSet::ALL {
            assert_eq!(set.names().len(), set.classes(), "{set:?}");
            assert!(is_known(&set.names()));
        }
        let one = LabelSet::One.names();
        assert_eq!((one[0].as_str(), one[281].as_str()), ("tench, Tinca tinca", "tabby, tabby cat"));
        assert!(one[999].starts_with("toilet tissue"), "{}", one[999]);
        assert_eq!(LabelSet::TwentyOne.names()[0], "organism, being");
        assert!(!is_known(&vec![String::new(); 1000]));
    }

    #[test]
    fn sets_are_known_by_tags_and_names_never_by_a_number_alone() {
        for (tag, classes, set) in [
            ("augreg_in21k_ft_in1k", 1000, Some(LabelSet::One)),
            ("augreg_in1k", 1000, Some(LabelSet::One)),
            ("laion2b_ft_in12k", 11_821, Some(LabelSet::Twelve)),
            ("laion2b_ft_in12k_in1k", 1000, Some(LabelSet::One)),
            ("augreg_in21k", 21_843, Some(LabelSet::TwentyOne)),
            ("in22k_ft_in22k", 21_841, Some(LabelSet::TwentyTwo)),
            ("miil_in21k", 11_221, Some(LabelSet::Miil)),
            ("augreg_in21k_ft_in1k", 5, None),
            ("augreg_in21k", 1000, None),
            ("lvd142m", 1000, None),
            ("", 1000, None),
        ] {
            assert_eq!(LabelSet::of_tag(tag, classes), set, "{tag}");
        }
        assert_eq!(LabelSet::of_jax("ViT-B_16", 1000), None);
        assert_eq!(LabelSet::of_jax("ViT-B_16", 21_843), Some(LabelSet::TwentyOne));
        assert_eq!(LabelSet::of_jax("BiT-M-R50x1-ILSVRC2012", 1000), Some(LabelSet::One));
        assert_eq!(LabelSet::of_original("deit_base_patch16_224-b5f2ef4d", 1000), Some(LabelSet::One));
        assert_eq!(LabelSet::of_original("my_deit", 1000), None);
        assert_eq!(LabelSet::of_torchvision("IMAGENET1K_SWAG_E2E_V1", 1000), Some(LabelSet::One));
    }
}
