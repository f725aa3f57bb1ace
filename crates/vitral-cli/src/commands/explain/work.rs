//! The inputs and results of a run of `explain`.

use anyhow::bail;
use vitral::explain::faithfulness;
use vitral::explain::report::Report;
use vitral::explain::{Aim, InputImage, Method, Options};
use vitral::image::RgbImage;
use vitral::{Error, Model};

use super::args::{ExplainArgs, Figure, TargetKind, What};
use super::files::{Folder, Stems};
use super::selection::{self, Selection};
use crate::fault::Usage;
use crate::printer::Printer;
use crate::settings::Settings;

/// A run of `explain`: what to make, with which model, and the results so far.
pub(super) struct Work<'a> {
    pub(super) args: &'a ExplainArgs,
    pub(super) model: &'a Model,
    pub(super) settings: &'a Settings,
    pub(super) printer: &'a Printer,
    pub(super) methods: Vec<Method>,
    pub(super) figures: Vec<Figure>,
    pub(super) options: Options,
    pub(super) aim: Aim,
    /// For the sanity check.
    pub(super) shuffled: Option<Model>,
    /// For `cka`.
    pub(super) other: Option<&'a Model>,
    pub(super) folder: Folder,
    pub(super) stems: Stems,
    pub(super) report: Report,
    /// Final patch tokens of every image, so that colors have the same meaning in all.
    pub(super) tokens: Vec<(Folder, InputImage, Vec<f32>)>,
    pub(super) rows: Vec<Vec<RgbImage>>,
    /// What `all` could not make, and why.
    pub(super) left_out: Vec<(&'static str, String)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        args: &'a ExplainArgs,
        model: &'a Model,
        other: Option<&'a Model>,
        settings: &'a Settings,
        printer: &'a Printer,
    ) -> anyhow::Result<Self> {
        let options = args.options();
        options.check(model)?;
        let aim = match (&args.class, args.target) {
            (Some(class), _) => Aim::Class(model.class(class)?),
            (None, TargetKind::Class) => Aim::Predicted,
            (None, TargetKind::Feature) => Aim::Feature,
        };
        let Selection { methods, figures, left_out } = Selection::of(&args.method, model, &aim).map_err(Error::from)?;
        if let Some(fault) = selection::without_answer(model, &aim, "--faithfulness").filter(|_| args.faithfulness) {
            return Err(Error::from(fault).into());
        }
        if args.at.is_some() && !methods.iter().any(|method| method.needs_patch()) {
            bail!(Usage("`--at` sets the patch for `patch` and `similarity`; name one of them with `--method`".into()));
        }
        let config = model.vit().config();
        let report = Report {
            model: model.name().to_owned(),
            about: match config.depth {
                0 => format!("a ResNet of width {}, cells of {} pixels", config.width, config.token_stride()),
                depth => format!(
                    "{depth} layers of {} heads, width {}, patches of {} pixels",
                    config.heads,
                    config.width,
                    config.token_stride()
                ),
            },
            score: if aim == Aim::Feature {
                "the cosine to the pooled feature"
            } else {
                "the probability of the class"
            }
            .into(),
            ..Report::default()
        };
        let mut work = Work {
            args,
            model,
            settings,
            printer,
            methods,
            figures,
            options,
            aim,
            shuffled: args.faithfulness.then(|| faithfulness::shuffled(model, args.seed)).transpose()?,
            other,
            folder: Folder::create(&args.output)?,
            stems: Stems::default(),
            report,
            tokens: vec![],
            rows: vec![],
            left_out: vec![],
        };
        for (name, fault) in left_out {
            work.leave_out(name, &fault.into());
        }
        Ok(work)
    }

    /// Records that something that was not named cannot be made, and why.
    pub(super) fn leave_out(&mut self, name: &'static str, fault: &Error) {
        self.printer.note(format_args!("left out `{name}`: {fault}"));
        self.left_out.push((name, fault.to_string()));
    }

    /// Whether a figure was named, which makes it an error if it cannot be made.
    pub(super) fn named(&self, figure: Figure) -> bool {
        self.args.method.contains(&What::Figure(figure)) || (figure == Figure::Cka && self.other.is_some())
    }
}
