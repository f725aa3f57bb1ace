//! Classes in words, for models of images and texts.

use std::path::Path;
use std::str::FromStr;

use clap::Args;
use vitral::text::TextLabels;

use crate::fault::Usage;

/// Which classes a model of images and texts tells apart.
#[derive(Args, Clone, Debug)]
pub(crate) struct LabelArgs {
    /// Classes in words, for a model of images and texts (CLIP, SigLIP): separated by commas, or `@FILE` with one on each line
    #[arg(long, visible_alias = "candidate-labels", value_name = "LABELS")]
    pub(crate) labels: Option<Words>,
    /// The text for a label, which takes the place of `{}`, such as 'a photo of a {}.'; given several times, the mean of the
    /// texts is used [default: the label alone]
    #[arg(long, visible_alias = "hypothesis-template", value_name = "TEXT")]
    pub(crate) template: Vec<String>,
}

/// Texts, as they are given on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = match text.strip_prefix('@') {
            None if is_list(text) => {
                return Err(format!("`{text}` is a file; write `@{text}` for the labels in its lines"));
            }
            None => text.split(',').map(|word| word.trim().to_owned()).collect(),
            Some(file) => {
                let read = std::fs::read_to_string(file);
                let read = read.map_err(|error| format!("`{file}`: cannot read: {error}"))?;
                read.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
            }
        };
        match words.iter().any(String::is_empty) || words.is_empty() {
            true => {
                Err("expected labels separated by commas, or `@FILE` with one on each line; found an empty one".into())
            }
            false => Ok(Words(words)),
        }
    }
}

/// Whether a text is the name of a file with an ending, which no label has.
fn is_list(text: &str) -> bool {
    let path = Path::new(text);
    path.extension().is_some() && path.is_file()
}

impl LabelArgs {
    /// The labels with their templates, if there are any.
    pub(crate) fn labels(&self) -> anyhow::Result<Option<TextLabels>> {
        let labels =
            self.labels.as_ref().map(|words| TextLabels::new(words.0.clone()).templates(self.template.clone()));
        if labels.is_none() && !self.template.is_empty() {
            return Err(Usage("`--template` makes texts of `--labels`, and there are none".into()).into());
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_separated_by_commas_or_lines() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.0);
        assert_eq!(words("a cat, a dog").unwrap(), ["a cat", "a dog"]);
        assert!(words("a cat,,").is_err() && words("").is_err() && words("@/no/such/file").is_err());
        let file = tempfile::Builder::new().suffix(".txt").tempfile().unwrap();
        std::fs::write(file.path(), "a cat, asleep\n\n a dog\n").unwrap();
        assert_eq!(words(&format!("@{}", file.path().display())).unwrap(), ["a cat, asleep", "a dog"]);
        let forgotten = words(&file.path().display().to_string()).unwrap_err();
        assert!(forgotten.contains(&format!("write `@{}`", file.path().display())), "{forgotten}");
    }
}
