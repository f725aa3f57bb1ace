//! What to use in place of options that other programs have.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Options of other programs, and what to do here.
const KNOWN: [(&[&str], &str); 15] = [
    (
        &["--resume", "--continue", "--resume-from-checkpoint"],
        "a run resumes by itself: run the same command again, with the same folder",
    ),
    (
        &["--pretrained", "--checkpoint", "--ckpt", "--model-path", "--initial-checkpoint"],
        "give the model with `--model`",
    ),
    (&["--num-classes", "--nb-classes", "--num-labels"], "the number of classes comes from the data"),
    (&["--workers", "--num-workers", "-j"], "`--threads` is for computing and for decoding images alike"),
    (&["--data", "--data-dir", "--data-path", "--dataset"], "the data comes first, without an option"),
    (&["--input", "--image", "--images", "--img"], "images come without an option: files, folders or patterns"),
    (&["--weight-decay", "--wd"], "use `--set groups.weight_decay=…`"),
    (&["--layer-decay"], "use `--set groups.layer_decay=…`"),
    (&["--opt", "--optimizer"], "use `--set optimizer.kind=adamw`, sgd, lion, lamb or muon"),
    (&["--warmup-epochs", "--warmup"], "use `--set schedule.warmup_epochs=…`"),
    (&["--drop-path"], "use `--set model.set.drop.path=…`"),
    (&["--mixup", "--cutmix"], "use `--set augment.mixing.mixup=…` or `augment.mixing.cutmix=…`"),
    (&["--clip-grad"], "use `--set run.clip=…`"),
    (&["--model-ema", "--ema"], "use `--set run.ema_decay=0.9999`"),
    (
        &["--format", "--output-format"],
        "the format follows from the ending of `--output`; `--json` is for standard output",
    ),
];

/// A hint for a command line that was not understood.
pub(crate) fn hint(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    let given = given.split('=').next().unwrap_or_default().replace('_', "-");
    KNOWN.iter().find(|(names, _)| names.contains(&given.as_str())).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_other_programs_have_hints() {
        let command = || clap::Command::new("vitral").arg(clap::Arg::new("known").long("known"));
        let said = |option: &str| hint(&command().try_get_matches_from(["vitral", option]).expect_err("unknown"));
        assert!(said("--resume").is_some_and(|hint| hint.contains("again")));
        assert!(said("--num_workers").is_some_and(|hint| hint.contains("--threads")));
        assert!(said("--wd=0.1").is_some_and(|hint| hint.contains("weight_decay")));
        assert_eq!(said("--other"), None);
    }
}
