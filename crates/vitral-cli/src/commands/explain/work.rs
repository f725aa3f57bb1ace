//! The inputs and results of a run of `explain`.

use std::path::Path;

use anyhow::bail;
use vitral::explain::faithfulness;
use vitral::explain::report::{Report, today};
use vitral::explain::{Aim, Method, Options};
use vitral::{Error, Model};

use super::args::{ExplainArgs, Figure, TargetKind, What};
use super::files::{Folder, Inputs, Stems};
use super::places::{Places, Planned};
use super::selection::{self, Selection};
use super::sheets::Gallery;
use super::waiting::Waiting;
use crate::fault::Usage;
use crate::inputs::Found;
use crate::printer::Printer;
use crate::settings::Settings;

/// Number of classes to show.
pub(super) const SHOWN: usize = 5;

/// A run of `explain`: what to make, with which model, and the results so far.
pub(super) struct Work<'a> {
    pub(super) args: &'a ExplainArgs,
    pub(super) model: &'a Model,
    pub(super) settings: &'a Settings,
    pub(super) printer: &'a Printer,
    pub(super) methods: Vec<Method>,
    pub(super) figures: Vec<Figure>,
    /// Every map of every method.
    pub(super) maps: Vec<Planned>,
    pub(super) options: Options,
    pub(super) aim: Aim,
    /// For the sanity check.
    pub(super) shuffled: Option<Model>,
    /// For `cka`.
    pub(super) other: Option<&'a Model>,
    /// The images, until they are looked at.
    pub(super) found: Found,
    pub(super) folder: Folder,
    pub(super) stems: Stems,
    pub(super) report: Report,
    /// Files that results must not replace.
    pub(super) inputs: Inputs,
    /// Results that wait for the colors of principal components, which have the same meaning in all images.
    pub(super) waiting: Vec<Waiting>,
    pub(super) gallery: Gallery,
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
        let places = Places::of(&args.layer, &args.head, model)?;
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
        let found = args.inputs.find(printer)?;
        let inputs = Inputs::new(found.files());
        let maps: Vec<Planned> = methods.iter().flat_map(|method| places.of_method(*method, &options)).collect();
        refuse_inputs(args, &found, &inputs, &maps)?;
        let config = model.vit().config();
        let report = Report {
            model: model.name().to_owned(),
            made: today(),
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
            maps,
            options,
            aim,
            shuffled: args.faithfulness.then(|| faithfulness::shuffled(model, args.seed)).transpose()?,
            other,
            folder: Folder::create(&args.output, &inputs)?,
            found,
            inputs,
            stems: Stems::default(),
            report,
            waiting: vec![],
            gallery: Gallery::default(),
            left_out: vec![],
        };
        for (name, fault) in left_out {
            work.leave_out(name, &fault.into());
        }
        Ok(work)
    }

    /// Records that something that was not named cannot be made, and why.
    pub(super) fn leave_out(&mut self, name: &'static str, fault: &Error) {
        let fault = fault.to_string();
        // What is left out already needs no advice to leave it out.
        let reason = fault.strip_suffix(&format!("; leave out `{name}`")).unwrap_or(&fault);
        self.printer.note(format_args!("left out `{name}`: {reason}"));
        self.left_out.push((name, reason.to_owned()));
    }

    /// Whether a figure was named, which makes it an error if it cannot be made.
    pub(super) fn named(&self, figure: Figure) -> bool {
        self.args.method.contains(&What::Figure(figure)) || (figure == Figure::Cka && self.other.is_some())
    }
}

/// Refuses results that would replace an image, before the work starts. Each file is checked once more when it is written.
fn refuse_inputs(args: &ExplainArgs, found: &Found, inputs: &Inputs, maps: &[Planned]) -> anyhow::Result<()> {
    args.report.iter().try_for_each(|page| inputs.refuse(page))?;
    let refuse = |folder: &Path, name: &str| inputs.refuse(&folder.join(format!("{name}.png")));
    let of_model = ["gallery", Figure::Positions.name(), Figure::Filters.name()];
    of_model.iter().try_for_each(|name| refuse(&args.output, name))?;
    let of_image = [Figure::Heads.name(), Figure::Pca.name()];
    let mut stems = Stems::default();
    for image in found.names() {
        let folder = args.output.join(stems.of(&image));
        let mut names = maps.iter().map(|planned| planned.name.as_str()).chain(of_image);
        names.try_for_each(|name| refuse(&folder, name))?;
    }
    Ok(())
}
