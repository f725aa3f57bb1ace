//! How gradients go from rank to rank: through the memory of the machines, or from card to card.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use vitral_engine::{Device, FlatBuffer, GradientSum, Peers, Segment};
use vitral_ranks::{Ranks, RanksError, Reduction};

use crate::error::TrainError;
use crate::ranks;

/// Names NCCL's library by its file or folder, or is `off`.
const VARIABLE: &str = "VITRAL_NCCL";

/// The way of gradients from rank to rank.
#[derive(Debug)]
pub struct Exchange {
    ranks: Ranks,
    /// The cards, where all ranks compute on one and NCCL connects them.
    peers: Option<Peers>,
    /// Why cards go through the memory of the machines.
    why_not: Option<String>,
    /// Whether sums begin before all gradients are there: where all ranks compute on processors. What fails on a card is
    /// found late, and the others must not wait for it in a sum.
    is_early: bool,
}

impl Exchange {
    /// Connects the cards of ranks, if all of them compute on cards, for sums of so many values. Whatever is in the way of
    /// that leaves the exchange to the ranks' own carrier. All ranks call this at the same time.
    ///
    /// # Errors
    /// If ranks cannot tell each other, or cards that are connected do not exchange.
    pub fn of_cards(ranks: &Ranks, device: &Device, values: usize) -> Result<Self, TrainError> {
        if !ranks.is_several() {
            return Ok(Exchange::through_hosts(ranks));
        }
        let by_processors = ranks::gather(ranks, &matches!(device, Device::Cpu(_)))?.into_iter().all(|all| all);
        let is_early = by_processors && ranks.reduction() == Reduction::Tree;
        let through_hosts = |why_not| Exchange { ranks: ranks.clone(), peers: None, why_not, is_early };
        let named = std::env::var_os(VARIABLE).filter(|named| !named.is_empty());
        let found = match (matches!(device, Device::Cuda(_)), &named) {
            // Nobody expects NCCL between processors.
            (false, _) => Err(String::new()),
            (true, Some(named)) if named == "off" => Err(format!("`{VARIABLE}` is `off`")),
            (true, _) if !ranks.size().is_power_of_two() => {
                Err(format!("expected a power of two of cards, found {}", ranks.size()))
            }
            (true, _) => {
                let library = device.peer_library(named.map(PathBuf::from).as_deref());
                library.unwrap_or_else(|| unreachable!("a card")).map_err(|fault| fault.to_string())
            }
        };
        let library = match all_or_nothing(ranks, found)? {
            Ok(library) => library,
            Err(why) => return Ok(through_hosts(Some(why).filter(|why| !why.is_empty()))),
        };
        // Before the collective call: a rank without the key would leave the others waiting.
        let key = if ranks.is_first() { library.key().map_err(|fault| fault.to_string()) } else { Ok(Vec::new()) };
        let mut key = match all_or_nothing(ranks, key)? {
            Ok(key) => key,
            Err(why) => return Ok(through_hosts(Some(why))),
        };
        ranks.broadcast(&mut key)?;
        let joined = library.join(&key, ranks.rank(), ranks.size(), values).map_err(|fault| fault.to_string());
        let peers = match all_or_nothing(ranks, joined)? {
            Ok(peers) => peers,
            Err(why) => return Ok(through_hosts(Some(why))),
        };
        // Once before it counts: connections are made at the first exchange, and need memory.
        ranks::agree(ranks, peers.try_out().map_err(TrainError::from))?;
        Ok(Exchange { ranks: ranks.clone(), peers: Some(peers), why_not: None, is_early: false })
    }

    /// Through the memory of the machines, whatever the ranks compute on, once all gradients are there.
    pub fn through_hosts(ranks: &Ranks) -> Self {
        Exchange { ranks: ranks.clone(), peers: None, why_not: None, is_early: false }
    }

    /// Whether gradients go from card to card.
    pub(crate) fn is_by_cards(&self) -> bool {
        self.peers.is_some()
    }

    /// What the user should know: by what cards exchange, or why they do not.
    pub fn note(&self) -> Option<String> {
        match (&self.peers, &self.why_not) {
            (Some(peers), _) => {
                let (version, path) = peers.library();
                Some(format!("gradients go from card to card by {version} (`{}`)", path.display()))
            }
            (None, Some(why)) => Some(format!("gradients go through the memory of the machines: {why}")),
            (None, None) => None,
        }
    }

    /// Whether sums begin before all gradients are there.
    pub(crate) fn is_early(&self) -> bool {
        self.is_early
    }

    /// Begins to sum gradients over all ranks, as they become complete.
    pub(crate) fn begin(&self) -> Underway {
        let (ranks, (sender, receiver)) = (self.ranks.beside(), channel());
        let beside = ranks.clone();
        let summing = std::thread::Builder::new().name("exchange".into());
        let summing = summing.spawn(move || sum_as_reported(&beside, &receiver)).ok();
        Underway { sender, summing, beside: ranks }
    }

    /// Ends what [`Exchange::begin`] began: sums the segments that were not reported. All ranks do this, whether they have
    /// gradients or not.
    pub(crate) fn end(&self, underway: Underway, gradients: &mut GradientSum) -> Result<(), TrainError> {
        let Underway { sender, summing, beside } = underway;
        let begun = Instant::now();
        drop(sender);
        beside.hurry();
        let sums = match summing.map(JoinHandle::join) {
            Some(Ok(sums)) => sums?,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Vec::new(),
        };
        self.ranks.note_waiting(begun.elapsed());
        let segments = gradients.segments();
        for (range, sums) in segments.iter().zip(&sums) {
            gradients.sum_mut().write(range.start, sums);
        }
        if sums.is_empty() {
            gradients.join();
        }
        for range in &segments[sums.len()..] {
            if !sums.is_empty() {
                gradients.join_part(range.clone())?;
            }
            gradients.sum_mut().change(range.clone(), |values| self.ranks.sum(values))??;
        }
        Ok(())
    }

    /// Replaces values by their sums over all ranks. What goes wrong on a card is seen by its next download.
    pub(crate) fn sum(&self, values: &mut FlatBuffer) -> Result<(), TrainError> {
        match (&self.peers, self.ranks.reduction()) {
            (Some(peers), Reduction::Tree) => peers.sum(values),
            (Some(peers), Reduction::Library) => peers.sum_by_library(values),
            (None, _) => values.change(0..values.len(), |values| self.ranks.sum(values))??,
        }
        Ok(())
    }

    /// Waits for sums from card to card, in which all ranks are known to take part.
    pub(crate) fn settle(&self) -> Result<(), TrainError> {
        Ok(self.peers.as_ref().map_or(Ok(()), Peers::settle)?)
    }
}

/// Sums over ranks that have begun, by a thread beside those that compute. It is joined by [`Exchange::end`]; a panic before that
/// ends the process, and with it all ranks.
pub(crate) struct Underway {
    sender: Sender<Segment>,
    /// Nothing if the system has no thread for it: all is summed in the end.
    summing: Option<JoinHandle<Result<Vec<Vec<f32>>, RanksError>>>,
    beside: Ranks,
}

impl Underway {
    /// Takes a segment that is complete on this rank.
    pub(crate) fn take(&self, segment: Segment) {
        // Whoever does not listen anymore has failed, and says so in the end.
        let _ = self.sender.send(segment);
    }
}

/// Sums segments over all ranks in their order, each as soon as all sides of this rank have reported it, until no more
/// reports can come.
fn sum_as_reported(ranks: &Ranks, reported: &Receiver<Segment>) -> Result<Vec<Vec<f32>>, RanksError> {
    let mut sums: Vec<Vec<f32>> = Vec::new();
    // What each side has reported, from the segment on that is summed next. A side reports in the order of segments.
    let mut waiting: Vec<VecDeque<Vec<f32>>> = Vec::new();
    for Segment { index, side, sides, values } in reported {
        waiting.resize_with(sides, VecDeque::new);
        debug_assert_eq!(index, sums.len() + waiting[side].len(), "a side reports in the order of segments");
        waiting[side].push_back(values);
        while waiting.iter().all(|side| !side.is_empty()) {
            let mut parts = waiting.iter_mut().filter_map(VecDeque::pop_front);
            let Some(mut sum) = parts.next() else { break };
            for part in parts {
                sum.iter_mut().zip(part).for_each(|(sum, other)| *sum += other);
            }
            ranks.sum(&mut sum)?;
            sums.push(sum);
        }
    }
    Ok(sums)
}

/// What a rank has, if all ranks have it; else why the first one that does not has none.
fn all_or_nothing<T>(ranks: &Ranks, own: Result<T, String>) -> Result<Result<T, String>, TrainError> {
    let all = ranks::gather(ranks, &own.as_ref().err().cloned())?;
    Ok(match all.into_iter().flatten().next() {
        Some(why) => Err(why),
        None => own,
    })
}
