//! What ranks do together: sums, gathering, broadcasting.

use std::ops::Range;

use crate::error::RanksError;
use crate::link::Link;
use crate::ranks::{Ranks, Reduction};

/// Values that are added up at a time: few enough that they stay in the processor's cache between the steps of a sum,
/// enough that a message is worth its latency.
const SEGMENT: usize = 1 << 20;

impl Ranks {
    /// Replaces values by their sums over all ranks, each rank's in the same order.
    ///
    /// By [`Reduction::Tree`], neighbors are added first, then neighboring pairs, and so on: `((0 + 1) + (2 + 3)) + …`,
    /// each rank adding up a part of the values and giving the result to the others (recursive halving and doubling,
    /// Thakur et al. 2005). A rank sends and receives `2 (size − 1) / size` times the values.
    ///
    /// # Errors
    /// If the exchange fails.
    ///
    /// # Panics
    /// If the number of ranks is not a power of two.
    pub fn sum(&self, values: &mut [f32]) -> Result<(), RanksError> {
        let size = self.size();
        assert!(size.is_power_of_two(), "sums need a power of two of ranks, not {size}");
        let done = self.timed(|link| {
            if self.reduction == Reduction::Library && link.sum(values)? {
                return Ok(());
            }
            let exchange = |partner: usize, sent: &[f32], received: &mut [f32]| {
                let (sent, received) = (bytemuck::cast_slice(sent), bytemuck::cast_slice_mut(received));
                match &self.hurry {
                    None => link.exchange(partner, sent, partner, received),
                    Some(hurry) => link.exchange_beside(partner, sent, partner, received, hurry),
                }
            };
            let (place, mut received) = ((link.rank(), size), vec![0.0; SEGMENT.min(values.len()).div_ceil(2)]);
            values.chunks_mut(SEGMENT).try_for_each(|segment| tree_sum(&exchange, place, segment, &mut received))
        });
        done.unwrap_or(Ok(()))
    }

    /// Fills in what other ranks own: before, each rank has its own range of `values`; afterwards, each has all. Ranges
    /// follow each other in the order of ranks.
    ///
    /// # Errors
    /// If the exchange fails.
    ///
    /// # Panics
    /// If the number of ranks is not a power of two.
    pub fn share_out(&self, values: &mut [f32], owned: &[Range<usize>]) -> Result<(), RanksError> {
        assert!(self.size().is_power_of_two(), "shares need a power of two of ranks, not {}", self.size());
        let done = self.timed(|link| {
            let (rank, mut group) = (link.rank(), 1);
            while group < link.size() {
                // The groups of ranks that this one and its partner belong to, each with a range of values.
                let of = |rank: usize| {
                    let first = rank / group * group;
                    owned[first].start..owned[first + group - 1].end
                };
                let partner = rank ^ group;
                let exchange = |partner: usize, sent: &[f32], received: &mut [f32]| {
                    link.exchange(partner, bytemuck::cast_slice(sent), partner, bytemuck::cast_slice_mut(received))
                };
                trade(&exchange, values, partner, of(rank), of(partner))?;
                group *= 2;
            }
            Ok(())
        });
        done.unwrap_or(Ok(()))
    }

    /// What every rank gives, in the order of ranks (Bruck et al. 1997: the logarithm of the number of ranks in steps).
    /// For a process alone, its own.
    ///
    /// # Errors
    /// If the exchange fails.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RanksError> {
        self.timed(|link| gather(link, bytes)).unwrap_or_else(|| Ok(vec![bytes.to_vec()]))
    }

    /// Gives the first rank's bytes to all others.
    ///
    /// # Errors
    /// If the exchange fails.
    pub fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<(), RanksError> {
        self.timed(|link| broadcast(link, bytes)).unwrap_or(Ok(()))
    }

    /// Sends to another rank, which calls [`Ranks::receive`].
    ///
    /// # Errors
    /// If the exchange fails.
    pub fn send(&self, to: usize, bytes: &[u8]) -> Result<(), RanksError> {
        let sent = self.timed(|link| {
            link.send(to, &(bytes.len() as u64).to_le_bytes())?;
            link.send(to, bytes)
        });
        sent.unwrap_or(Ok(()))
    }

    /// Receives what another rank sends.
    ///
    /// # Errors
    /// If the exchange fails.
    pub fn receive(&self, from: usize) -> Result<Vec<u8>, RanksError> {
        let received = self.timed(|link| {
            let mut length = [0; 8];
            link.receive(from, &mut length)?;
            let mut bytes = room(u64::from_le_bytes(length))?;
            link.receive(from, &mut bytes)?;
            Ok(bytes)
        });
        received.unwrap_or_else(|| Ok(Vec::new()))
    }
}

/// Memory for what another rank announces.
fn room(length: u64) -> Result<Vec<u8>, String> {
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|error| format!("{length} bytes of another rank: {error}"))?;
    bytes.resize(length, 0);
    Ok(bytes)
}

/// Sends values to a partner and receives as many as there is room for.
type Exchange<'a> = dyn Fn(usize, &[f32], &mut [f32]) -> Result<(), String> + 'a;

fn tree_sum(
    exchange: &Exchange<'_>,
    (rank, size): (usize, usize),
    values: &mut [f32],
    received: &mut [f32],
) -> Result<(), String> {
    let mut own = 0..values.len();
    let mut halves = Vec::new();
    let mut distance = 1;
    while distance < size {
        let middle = own.start + own.len().div_ceil(2);
        let (lower, upper) = (own.start..middle, middle..own.end);
        let (kept, given) = if rank & distance == 0 { (lower, upper) } else { (upper, lower) };
        let (partner, received) = (rank ^ distance, &mut received[..kept.len()]);
        exchange(partner, &values[given.clone()], received)?;
        values[kept.clone()].iter_mut().zip(received).for_each(|(sum, other)| *sum += *other);
        halves.push((partner, kept.clone(), given));
        own = kept;
        distance *= 2;
    }
    halves.into_iter().rev().try_for_each(|(partner, kept, given)| trade(exchange, values, partner, kept, given))
}

/// Sends a partner one range of values and receives another, next to it.
fn trade(
    exchange: &Exchange<'_>,
    values: &mut [f32],
    partner: usize,
    own: Range<usize>,
    theirs: Range<usize>,
) -> Result<(), String> {
    let (sent, received) = if own.end <= theirs.start {
        let (left, right) = values.split_at_mut(theirs.start);
        (&left[own], &mut right[..theirs.len()])
    } else {
        let (left, right) = values.split_at_mut(own.start);
        (&right[..own.len()], &mut left[theirs])
    };
    exchange(partner, sent, received)
}

fn gather(link: &dyn Link, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (rank, size) = (link.rank(), link.size());
    // Contributions of this rank and of those after it, each with its length before it.
    let mut all = [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let mut ends = vec![all.len()];
    while ends.len() < size {
        let (have, lacking) = (ends.len(), size - ends.len());
        let (to, from) = ((rank + size - have) % size, (rank + have) % size);
        let sent = &all[..ends[have.min(lacking) - 1]];
        let mut length = [0; 8];
        link.exchange(to, &(sent.len() as u64).to_le_bytes(), from, &mut length)?;
        let mut received = room(u64::from_le_bytes(length))?;
        link.exchange(to, sent, from, &mut received)?;
        let before = all.len();
        all.extend_from_slice(&received);
        let mut at = before;
        while at < all.len() {
            let length = all.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            let length = length.and_then(|length| usize::try_from(length).ok());
            at = length.and_then(|length| at.checked_add(8 + length)).ok_or("ranks disagree about what they gather")?;
            ends.push(at);
        }
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let parts: Option<Vec<_>> = starts.zip(&ends).map(|(start, &end)| all.get(start + 8..end)).collect();
    let parts = parts.filter(|parts| parts.len() == size).ok_or("ranks disagree about what they gather")?;
    // From the order of this rank, then the next, to that of all.
    Ok((0..size).map(|other| parts[(other + size - rank) % size].to_vec()).collect())
}

fn broadcast(link: &dyn Link, bytes: &mut Vec<u8>) -> Result<(), String> {
    let (rank, size) = (link.rank(), link.size());
    // A tree: rank r has it from the rank without r's lowest bit, and gives it to those with one more bit below.
    let lowest = if rank == 0 { size.next_power_of_two() } else { 1 << rank.trailing_zeros() };
    if rank > 0 {
        let from = rank - lowest;
        let mut length = [0; 8];
        link.receive(from, &mut length)?;
        *bytes = room(u64::from_le_bytes(length))?;
        link.receive(from, bytes)?;
    }
    let mut bit = lowest / 2;
    while bit > 0 {
        if rank + bit < size {
            link.send(rank + bit, &(bytes.len() as u64).to_le_bytes())?;
            link.send(rank + bit, bytes)?;
        }
        bit /= 2;
    }
    Ok(())
}
