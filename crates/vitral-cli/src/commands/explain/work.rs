//! What a run of `explain` has to make, and what it works with.

use anyhow::bail;
use vitral::config::Stem;
use vitral::explain::belief;
use vitral::explain::report::Report;
use vitral::explain::{Aim, ExplainError, Method, Options, Picture};
use vitral::image::RgbImage;
use vitral::{Error, Model};

use super::args::{ExplainArgs, Figure, TargetKind, What};
use super::files::{Folder, Stems};
use crate::fault::Usage;
use crate::printer::Printer;
use crate::settings::Settings;

/// A run of `explain`: what to make, with which model, and what was made so far.
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
    /// Final patch tokens of every picture, for colours that mean the same in all.
    pub(super) tokens: Vec<(Folder, Picture, Vec<f32>)>,
    pub(super) rows: Vec<Vec<RgbImage>>,
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
        let has_head = model.vit.config().classes > 0;
        let aim = match (&args.class, args.target) {
            (Some(class), _) => Aim::Class(model.class(class)?),
            (None, TargetKind::Class) => Aim::Predicted,
            (None, TargetKind::Feature) => Aim::Feature,
        };
        let explains = has_head || aim == Aim::Feature;
        let (methods, figures) = wished(&args.method, model, explains, has_head);
        let attends = model.vit.config().depth > 0;
        let without = |figure| {
            let (model, what) = (model.name.clone(), "blocks with attention");
            Err(Error::from(ExplainError::Missing { model, what, figure }).into())
        };
        if let Some(method) = methods.iter().find(|method| method.needs_attention() && !attends) {
            return without(method.name());
        }
        if let Some(method) = methods.iter().find(|method| method.needs_target() && !explains) {
            let fault = ExplainError::NoClass { method: method.name().into(), model: model.name.clone() };
            return Err(Error::from(fault).into());
        }
        if args.faithfulness && !explains {
            let fault = ExplainError::NoClass { method: "--faithfulness".into(), model: model.name.clone() };
            return Err(Error::from(fault).into());
        }
        if args.at.is_some() && !methods.iter().any(|method| method.needs_patch()) {
            bail!(Usage(
                "`--at` chooses the patch of `patch` and `similarity`; name one of them with `--method`".into()
            ));
        }
        let config = model.vit.config();
        let report = Report {
            model: model.name.clone(),
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
        Ok(Work {
            args,
            model,
            settings,
            printer,
            methods,
            figures,
            options,
            aim,
            shuffled: args.faithfulness.then(|| belief::shuffled(model, args.seed)).transpose()?,
            other,
            folder: Folder::create(&args.output)?,
            stems: Stems::default(),
            report,
            tokens: vec![],
            rows: vec![],
        })
    }
}

/// Maps and figures that were wished for, or that suit the model.
fn wished(given: &[What], model: &Model, explains: bool, has_head: bool) -> (Vec<Method>, Vec<Figure>) {
    let (mut methods, mut figures) = (Vec::new(), Vec::new());
    let attends = model.vit.config().depth > 0;
    for what in given {
        match what {
            What::Map(method) if !methods.contains(method) => methods.push(*method),
            What::Figure(figure) if !figures.contains(figure) => figures.push(*figure),
            What::All => {
                let can =
                    |method: &Method| (explains || !method.needs_target()) && (attends || !method.needs_attention());
                methods = Method::ALL.into_iter().filter(can).collect();
                figures = Figure::ALL.into_iter().filter(|figure| has(model, *figure, has_head)).collect();
            }
            _ => {}
        }
    }
    if given.is_empty() {
        methods = match explains {
            true => {
                vec![Method::Attention, Method::Rollout, Method::Chefer, Method::GradCam, Method::IntegratedGradients]
            }
            false => vec![Method::Attention, Method::Dino, Method::Rollout, Method::Norms],
        };
        methods.retain(|method| attends || !method.needs_attention());
        if !has_head {
            figures.push(Figure::Pca);
        }
    }
    (methods, figures)
}

/// Whether a model has what a figure is of.
fn has(model: &Model, figure: Figure, has_head: bool) -> bool {
    let config = model.vit.config();
    match figure {
        Figure::Positions => config.learned_positions().is_some(),
        Figure::Filters => config.stem == Stem::Patches,
        Figure::Lens => has_head,
        Figure::Heads | Figure::Distance | Figure::Entropy => config.depth > 0,
        _ => true,
    }
}
