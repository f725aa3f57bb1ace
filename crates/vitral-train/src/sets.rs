//! The images of a run: what it is trained on, what chooses the best epoch, what the result is reported on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vitral::Model;

use crate::data::{
    Dataset, Match, Part, Relabeled, Split, Subset, ValidationSplit, listed, open_numbers, open_part, with_classes,
};
use crate::error::TrainError;
use crate::labeling::Labeling;
use crate::loss::Loss;
use crate::recipe::{Recipe, SubsetRecipe};
use crate::report::ChosenOn;

/// The images of a recipe, opened.
#[derive(Debug)]
pub struct Sets {
    /// The images to train on.
    pub train: Arc<dyn Dataset>,
    /// The images that the best epoch is chosen on, if they are not the same as `test`.
    pub validation: Option<Arc<dyn Dataset>>,
    /// The images that the result is reported on.
    pub test: Arc<dyn Dataset>,
    /// What the best epoch is chosen on.
    pub chosen_on: ChosenOn,
    /// What was left out or decided when they were opened, a sentence each.
    pub notes: Vec<String>,
}

impl Sets {
    /// The images that the model is evaluated on after epochs, to choose the best one.
    pub fn choosing(&self) -> &Arc<dyn Dataset> {
        self.validation.as_ref().unwrap_or(&self.test)
    }

    /// Gives the images the classes of a model whose classifier is kept: by name, and in order only if no name fits.
    ///
    /// # Errors
    /// If the data has classes that the model does not have; the error names them.
    pub fn keep_classes(&mut self, model: &Model) -> Result<(), TrainError> {
        let (count, names) = (model.vit().config().classes, model.labels().names());
        for set in [&mut self.train, &mut self.test].into_iter().chain(&mut self.validation) {
            let kept = Relabeled::to(Arc::clone(set), count, names)?;
            if !kept.unknown().is_empty() {
                let unknown: Vec<String> = kept.unknown().iter().map(|(name, _)| name.clone()).collect();
                let problem = format!("expected classes of the model, found other ones: {}", listed(&unknown));
                let hint = "leave these classes out, or let `model.head` be new";
                return Err(fault(model.path(), problem, hint));
            }
            let note = match kept.how() {
                Match::Names => None,
                Match::Numbers => Some("the data's class names were taken for the numbers of the model's classes"),
                Match::Order => Some("no class name of the data is one of the model's: classes are matched in order"),
            };
            let note = note.map(str::to_owned).filter(|note| !self.notes.contains(note));
            self.notes.extend(note);
            *set = Arc::new(kept);
        }
        Ok(())
    }
}

/// Opens a recipe's images. If the data has a validation part as well as a test part, the best epoch is chosen on it.
///
/// # Errors
/// If they cannot be found, there is only one class, or a part has classes that the training images do not have.
pub fn open_sets(recipe: &Recipe) -> Result<Sets, TrainError> {
    let data = &recipe.data;
    // With test images of its own, nothing is split off the training images.
    let share = |fraction| ValidationSplit { fraction, ..data.validation_split };
    let own = data.test.as_ref();
    let open_part = if recipe.run.loss == Some(Loss::Squared) { open_numbers } else { open_part };
    let Part { dataset: train, parts: beside, mut notes } =
        open_part(&data.train, Split::Train, own.map_or(data.validation_split, |_| share(0.0)))?;
    if let [only] = train.classes()
        && train.labeling() == Labeling::One
    {
        let found = format!("expected at least two classes, found one, `{only}`");
        return Err(fault(&data.train, found, "give a folder with one sub-folder for each class"));
    }
    let path = own.unwrap_or(&data.train);
    let open = |path: &PathBuf, split: Split, whole: ValidationSplit| -> Result<Part, TrainError> {
        let part = open_part(path, split, whole)?;
        Ok(Part { dataset: with_classes(part.dataset, train.classes())?, ..part })
    };
    let Part { dataset: test, parts, notes: of_test } =
        open(path, Split::Test, own.map_or(data.validation_split, |_| share(1.0)))?;
    // Without a test part, the validation part takes its place.
    let stands_in = parts.contains(&Split::Validation) && !parts.contains(&Split::Test);
    let place = match own {
        Some(_) if beside.contains(&Split::Validation) => Some(&data.train),
        _ => Some(path).filter(|_| parts.contains(&Split::Validation) && !stands_in),
    };
    let validation = place.map(|place| open(place, Split::Validation, share(1.0))).transpose()?;
    for part in [Some(of_test), validation.as_ref().map(|part| part.notes.clone())].into_iter().flatten() {
        part.into_iter().for_each(|note| {
            if !notes.contains(&note) {
                notes.push(note)
            }
        });
    }
    let validation = validation.map(|part| part.dataset);
    let given_twice = validation.as_ref().is_some_and(|validation| same(validation.as_ref(), test.as_ref()));
    let validation = validation.filter(|_| !given_twice);
    let chosen_on = match validation {
        Some(_) => ChosenOn::Validation,
        None if stands_in || given_twice => ChosenOn::ValidationAlone,
        None if own.is_some() || parts.contains(&Split::Test) => ChosenOn::Test,
        None => ChosenOn::ValidationSplit,
    };
    let train = match data.subset {
        Some(SubsetRecipe { fraction, seed }) => Arc::new(Subset::share(&train, fraction, seed)),
        None => train,
    };
    Ok(Sets { train, validation, test, chosen_on, notes })
}

/// Whether two sets hold the same images, by their names.
fn same(a: &dyn Dataset, b: &dyn Dataset) -> bool {
    a.len() == b.len() && (0..a.len()).all(|index| a.name(index) == b.name(index))
}

fn fault(path: &Path, fault: String, hint: &'static str) -> TrainError {
    TrainError::Data { path: path.to_owned(), fault, hint }
}
