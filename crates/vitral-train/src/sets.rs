//! The images of a run: what it is trained on, what chooses the best epoch, what the result is reported on.

use std::sync::Arc;

use crate::data::{Dataset, Part, Split, Subset, ValidationSplit, open, open_part};
use crate::error::TrainError;
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
}

impl Sets {
    /// The images that the model is evaluated on after epochs, to choose the best one.
    pub fn choosing(&self) -> &Arc<dyn Dataset> {
        self.validation.as_ref().unwrap_or(&self.test)
    }
}

/// Opens a recipe's images. If the data has a validation part as well as a test part, the best epoch is chosen on it.
///
/// # Errors
/// If they cannot be found, or the parts differ in their classes.
pub fn open_sets(recipe: &Recipe) -> Result<Sets, TrainError> {
    let data = &recipe.data;
    // With test images of its own, nothing is split off the training images.
    let share = |fraction| ValidationSplit { fraction, ..data.validation_split };
    let own = data.test.as_ref();
    let Part { dataset: train, parts: beside } =
        open_part(&data.train, Split::Train, own.map_or(data.validation_split, |_| share(0.0)))?;
    let path = own.unwrap_or(&data.train);
    let Part { dataset: test, parts } =
        open_part(path, Split::Test, own.map_or(data.validation_split, |_| share(1.0)))?;
    // Without a test part, the validation part takes its place.
    let stands_in = parts.contains(&Split::Validation) && !parts.contains(&Split::Test);
    let place = match own {
        Some(_) if beside.contains(&Split::Validation) => Some(&data.train),
        _ => Some(path).filter(|_| parts.contains(&Split::Validation) && !stands_in),
    };
    let validation = place.map(|place| open(place, Split::Validation, share(1.0))).transpose()?;
    let given_twice = validation.as_ref().is_some_and(|validation| same(validation.as_ref(), test.as_ref()));
    let validation = validation.filter(|_| !given_twice);
    let chosen_on = match validation {
        Some(_) => ChosenOn::Validation,
        None if stands_in || given_twice => ChosenOn::ValidationAlone,
        None if own.is_some() || parts.contains(&Split::Test) => ChosenOn::Test,
        None => ChosenOn::ValidationSplit,
    };
    for (path, set) in std::iter::once((path, &test)).chain(place.zip(validation.as_ref())) {
        if train.classes() != set.classes() {
            return Err(TrainError::Data {
                path: path.clone(),
                fault: format!(
                    "expected the same classes in every part, found {} to train on and {} to evaluate on",
                    train.classes().len(),
                    set.classes().len()
                ),
                hint: "give both sets the same classes",
            });
        }
    }
    let train = match data.subset {
        Some(SubsetRecipe { fraction, seed }) => Arc::new(Subset::share(&train, fraction, seed)),
        None => train,
    };
    Ok(Sets { train, validation, test, chosen_on })
}

/// Whether two sets hold the same images, by their names.
fn same(a: &dyn Dataset, b: &dyn Dataset) -> bool {
    a.len() == b.len() && (0..a.len()).all(|index| a.name(index) == b.name(index))
}
