//! Which features of an image: the choices of `--pool`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vitral::features::FeatureKind;

/// Each kind with another name for it, if there is one, and what it is. All but the last give one vector for each image.
const KINDS: [(FeatureKind, Option<&str>, &str); 5] = [
    (FeatureKind::Pooled, None, "The model's own pooling: what its classifier sees"),
    (FeatureKind::Class, Some("cls"), "The class token after the final norm"),
    (FeatureKind::Mean, Some("avg"), "The mean of the patch tokens after the final norm"),
    (FeatureKind::ClassAndMean, None, "Both, side by side"),
    (
        FeatureKind::Tokens,
        None,
        "All tokens after the final norm: class, distillation or registers, then patches in row-major order",
    ),
];

/// Reads a choice that gives one vector for each image.
pub(crate) fn vectors() -> impl TypedValueParser<Value = FeatureKind> {
    choices(KINDS.len() - 1)
}

/// Reads a choice, all tokens among them.
pub(crate) fn vectors_or_tokens() -> impl TypedValueParser<Value = FeatureKind> {
    choices(KINDS.len())
}

fn choices(count: usize) -> impl TypedValueParser<Value = FeatureKind> {
    let value = |(kind, other, help): &(FeatureKind, Option<&'static str>, &'static str)| {
        PossibleValue::new(kind.name()).aliases(*other).help(*help)
    };
    let named = |text: String| {
        let kind = KINDS.iter().find(|(kind, other, _)| kind.name() == text || *other == Some(&text));
        kind.map(|(kind, ..)| *kind).unwrap_or_default()
    };
    PossibleValuesParser::new(KINDS[..count].iter().map(value)).map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_by_all_their_names() {
        let read = |text: &str| {
            let command = clap::Command::new("x").arg(clap::Arg::new("pool").value_parser(vectors()));
            let found = command.try_get_matches_from(["x", text]).ok()?;
            found.get_one::<FeatureKind>("pool").copied()
        };
        assert_eq!((read("class"), read("cls")), (Some(FeatureKind::Class), Some(FeatureKind::Class)));
        assert_eq!((read("avg"), read("class-and-mean")), (Some(FeatureKind::Mean), Some(FeatureKind::ClassAndMean)));
        assert_eq!((read("tokens"), read("x")), (None, None));
    }
}
