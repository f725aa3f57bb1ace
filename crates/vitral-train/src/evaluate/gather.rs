//! A model's answers for every image, whichever rank computes them.

use vitral_ranks::{Failed, RanksError};

use crate::data::Loader;
use crate::error::TrainError;
use crate::labeling::Labeling;
use crate::ranks;
use crate::step::Batch;

/// What a model answers to a batch.
pub(crate) struct Answers {
    /// Values, as many for each image.
    pub(crate) values: Vec<f32>,
    /// The images' labels.
    pub(crate) labels: Vec<usize>,
    /// The images' targets; empty where each has one label.
    pub(crate) targets: Vec<f32>,
}

/// Takes a listed epoch through `answer`, each rank its batches, and gives the answers to `take` in the order of the
/// images, all of them on every rank: what it makes of them has the same bits as in one process.
///
/// # Errors
/// The first of the loader, of `answer` or of `take`, on any rank.
pub(crate) fn each_in_order(
    loader: &Loader,
    mut answer: impl FnMut(&Batch) -> Result<Vec<f32>, TrainError>,
    mut take: impl FnMut(&Answers) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let ranks = loader.ranks();
    let with_targets = loader.dataset().labeling() != Labeling::One;
    let mut answered = |batch: &Batch| {
        let targets = if with_targets { batch.targets.to_vec()? } else { Vec::new() };
        Ok(Answers { values: answer(batch)?, labels: batch.labels.clone(), targets })
    };
    let mut batches = loader.epoch(0, 0);
    if !ranks.is_several() {
        return batches.try_for_each(|batch| take(&answered(&batch?)?));
    }
    let mut next = batches.next();
    let mut taken = Ok(());
    for round in 0..loader.batches().div_ceil(ranks.size()) {
        let number = round * ranks.size() + ranks.rank();
        // A batch without a readable image is missing.
        let own = match next.take() {
            Some(Ok(batch)) if loader.number(batch.place) != number => {
                next = Some(Ok(batch));
                Ok(None)
            }
            other => {
                next = batches.next();
                other.transpose()
            }
        };
        let own = std::mem::replace(&mut taken, Ok(())).and(own);
        let own = own.and_then(|batch| batch.as_ref().map(&mut answered).transpose());
        let told = own.map(|answers| answers.map_or_else(Vec::new, |answers| answers.to_bytes()));
        let all = ranks.gather_if_well(told).map_err(Failed::<TrainError>::into_error)?;
        for bytes in all.iter().filter(|bytes| !bytes.is_empty()) {
            taken = taken.and_then(|()| take(&Answers::from_bytes(bytes)?));
        }
    }
    ranks::agree(ranks, taken)?;
    let skipped: Vec<_> = loader.skipped().into_iter().map(|skipped| (skipped.index, skipped.fault)).collect();
    loader.note_skipped(ranks::gather(ranks, &skipped)?.concat());
    Ok(())
}

impl Answers {
    /// Three lengths, then labels, values and targets, in four bytes each.
    fn to_bytes(&self) -> Vec<u8> {
        let word = |length: usize| u32::try_from(length).expect("a batch fits in memory");
        let mut words = vec![word(self.labels.len()), word(self.values.len()), word(self.targets.len())];
        words.extend(self.labels.iter().map(|&label| word(label)));
        words.extend(self.values.iter().chain(&self.targets).map(|value| value.to_bits()));
        bytemuck::cast_slice(&words).to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
        let split = || {
            let (lengths, rest) = words.split_first_chunk::<3>()?;
            let [labels, values, targets] = lengths.map(|length| length as usize);
            let (labels, rest) = rest.split_at_checked(labels)?;
            let (values, rest) = rest.split_at_checked(values)?;
            (rest.len() == targets).then_some((labels, values, rest))
        };
        let strange =
            || RanksError::Elsewhere { rank: 0, message: "ranks disagree about what they evaluate".to_owned() };
        let (labels, values, targets) = split().ok_or_else(strange)?;
        let floats = |words: &[u32]| words.iter().map(|&word| f32::from_bits(word)).collect();
        let labels = labels.iter().map(|&label| label as usize).collect();
        Ok(Answers { values: floats(values), labels, targets: floats(targets) })
    }
}
