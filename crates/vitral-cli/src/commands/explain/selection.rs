//! What a run makes: what was requested, or what suits the model.

use vitral::Model;
use vitral::config::{Pooling, Stem};
use vitral::explain::{Aim, ExplainError, Method};

use super::args::{Figure, What};

/// What a run makes, and what it leaves out.
#[derive(Default)]
pub(super) struct Selection {
    pub(super) methods: Vec<Method>,
    pub(super) figures: Vec<Figure>,
    /// What `all` leaves out because it does not apply, and why.
    pub(super) left_out: Vec<(&'static str, ExplainError)>,
}

/// Whether a model has a classifier that gives one prediction per image.
pub(super) fn classifies(model: &Model) -> bool {
    model.check_classifies().is_ok()
}

/// Why there is nothing to explain for a method that needs a prediction, if so.
pub(super) fn without_answer(model: &Model, aim: &Aim, who: &str) -> Option<ExplainError> {
    let name = || model.name().to_owned();
    if model.vit().config().pooling == Pooling::None {
        return Some(ExplainError::PerToken { model: name() });
    }
    let answers = classifies(model) || *aim == Aim::Feature;
    (!answers).then(|| ExplainError::NoClass { method: who.into(), model: name() })
}

fn without_map(model: &Model, aim: &Aim, method: Method) -> Option<ExplainError> {
    if method.needs_attention() && model.vit().config().depth == 0 {
        let (model, figure) = (model.name().to_owned(), method.name());
        return Some(ExplainError::Missing { model, what: "blocks with attention", figure });
    }
    without_answer(model, aim, method.name()).filter(|_| method.needs_target())
}

fn without_figure(model: &Model, figure: Figure) -> Option<ExplainError> {
    let config = model.vit().config();
    let (has, what) = match figure {
        Figure::Positions => (config.learned_positions().is_some(), "learned positions"),
        Figure::Filters => (config.stem == Stem::Patches, "embedding of plain patches"),
        Figure::Lens if config.classes > 0 => (classifies(model), "single answer for each image"),
        Figure::Lens => (false, "classifier"),
        Figure::Heads | Figure::Distance | Figure::Entropy => (config.depth > 0, "blocks with attention"),
        Figure::Pca | Figure::Rank | Figure::Cka => (true, ""),
    };
    (!has).then(|| ExplainError::Missing { model: model.name().to_owned(), what, figure: figure.name() })
}

impl Selection {
    /// What was requested, or a few maps that suit the model if nothing was.
    ///
    /// # Errors
    /// If a requested item does not apply to the model; items that only `all` includes are left out instead.
    pub(super) fn of(given: &[What], model: &Model, aim: &Aim) -> Result<Self, ExplainError> {
        let mut selection = Selection::default();
        for what in given {
            let missing = match what {
                What::All => None,
                What::Map(method) => without_map(model, aim, *method),
                What::Figure(figure) => without_figure(model, *figure),
            };
            match missing {
                Some(fault) => return Err(fault),
                None => selection.add(*what),
            }
        }
        if given.contains(&What::All) {
            for method in Method::ALL {
                selection.add_or_leave(What::Map(method), without_map(model, aim, method));
            }
            for figure in Figure::ALL {
                selection.add_or_leave(What::Figure(figure), without_figure(model, figure));
            }
            // The order does not depend on how the methods were given.
            selection.methods.sort_by_key(|wanted| Method::ALL.iter().position(|method| method == wanted));
            selection.figures.sort_by_key(|wanted| Figure::ALL.iter().position(|figure| figure == wanted));
        }
        if given.is_empty() {
            selection.methods = match without_answer(model, aim, "") {
                None => vec![
                    Method::Attention,
                    Method::Rollout,
                    Method::Chefer,
                    Method::GradCam,
                    Method::IntegratedGradients,
                ],
                Some(_) => vec![Method::Attention, Method::Dino, Method::Rollout, Method::Norms],
            };
            selection.methods.retain(|method| without_map(model, aim, *method).is_none());
            if !classifies(model) {
                selection.figures.push(Figure::Pca);
            }
        }
        Ok(selection)
    }

    fn add(&mut self, what: What) {
        match what {
            What::Map(method) if !self.methods.contains(&method) => self.methods.push(method),
            What::Figure(figure) if !self.figures.contains(&figure) => self.figures.push(figure),
            _ => {}
        }
    }

    fn add_or_leave(&mut self, what: What, missing: Option<ExplainError>) {
        match missing {
            Some(fault) => self.left_out.push((what.name(), fault)),
            None => self.add(what),
        }
    }
}
