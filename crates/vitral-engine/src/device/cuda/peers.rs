//! Cards of several processes that add up their gradients among themselves.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::Cuda;
use super::api::driver::{Driver, Failure};
use super::api::nccl::{Communicator, Nccl, UniqueId};
use super::heap::locked;
use super::launch::{Arg, Source, spread};
use super::memory::{Element, Memory};
use crate::device::error::DeviceError;
use crate::device::storage::{FlatBuffer, FlatStorage};

/// Values that are added up at a time by [`Peers::sum`]: what is received needs half as much memory beside.
const SEGMENT: usize = if cfg!(test) { 1 << 10 } else { 1 << 24 };

/// How long is waited before the card is asked again whether it is done.
const PAUSE: Duration = Duration::from_micros(20);

/// NVIDIA's NCCL, found but not yet connected.
pub struct PeerLibrary {
    cuda: Cuda,
    nccl: Nccl,
}

/// The cards of several processes, as one of them sees them. They exchange by NVIDIA's NCCL, directly where they can.
pub struct Peers {
    cuda: Cuda,
    communicator: Mutex<Communicator>,
    /// Room for what is received.
    received: Memory,
    rank: usize,
    size: usize,
}

impl std::fmt::Debug for PeerLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.nccl.version)
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "card {} of {}", self.rank, self.size)
    }
}

impl Cuda {
    fn peerless(&self, reason: String) -> DeviceError {
        DeviceError::Peers { device: self.inner.name(), reason }
    }
}

impl PeerLibrary {
    /// Finds NCCL for a card: in a file or folder, or where CUDA's libraries are.
    ///
    /// # Errors
    /// Where it was looked for.
    pub(in crate::device) fn open(cuda: &Cuda, named: Option<&Path>) -> Result<Self, DeviceError> {
        let nccl = Nccl::open(named, cuda.inner.folder.as_deref()).map_err(|reason| cuda.peerless(reason))?;
        Ok(PeerLibrary { cuda: cuda.clone(), nccl })
    }

    /// What all processes need to find each other. One of them makes it and gives it to the others.
    ///
    /// # Errors
    /// What NCCL says.
    pub fn key(&self) -> Result<Vec<u8>, DeviceError> {
        let id = self.nccl.unique_id().map_err(|reason| self.cuda.peerless(reason))?;
        Ok(id.0.to_vec())
    }

    /// Connects the cards, for sums of at most so many values at a time or longer ones in parts. All processes call this with
    /// the same key at the same time, and wait for each other.
    ///
    /// # Errors
    /// What NCCL says, as that two processes use the same card; if there is no memory.
    ///
    /// # Panics
    /// If the number of cards is not a power of two.
    pub fn join(self, key: &[u8], rank: usize, size: usize, values: usize) -> Result<Peers, DeviceError> {
        assert!(size.is_power_of_two() && rank < size, "sums need a power of two of cards, not {size}");
        let PeerLibrary { cuda, nccl } = self;
        let id = key.try_into().map(UniqueId);
        let id = id.map_err(|_| {
            let (expected, found) = (UniqueId::BYTES, key.len());
            cuda.peerless(format!("expected a key of {expected} bytes for NCCL, found {found}"))
        })?;
        let joined = nccl.join(&cuda.inner.driver, id, rank, size);
        let communicator = joined.map_err(|reason| cuda.peerless(reason))?;
        let received = cuda.allocate(Element::F32, SEGMENT.min(values.max(2 * size)).div_ceil(2));
        match cuda.inner.fault() {
            Some(fault) => Err(fault),
            None => Ok(Peers { communicator: Mutex::new(communicator), received, cuda, rank, size }),
        }
    }
}

impl Peers {
    /// The library, with its version, and the file that it was found in.
    pub fn library(&self) -> (String, PathBuf) {
        let communicator = locked(&self.communicator);
        let nccl = communicator.nccl();
        (nccl.version.clone(), nccl.path.clone().into())
    }

    /// Exchanges a few numbers both ways, and waits: NCCL makes its connections when they are first used.
    ///
    /// # Errors
    /// If something fails, or the sums are not right.
    pub fn try_out(&self) -> Result<(), DeviceError> {
        let own = vec![1.0 + self.rank as f32; 2 * self.size];
        let expected = (self.size * (self.size + 1) / 2) as f32;
        for sum in [Peers::sum, Peers::sum_by_library] {
            let mut buffer = FlatBuffer(FlatStorage::Cuda(self.cuda.flat_zeros(own.len())));
            buffer.write(0, &own);
            sum(self, &mut buffer);
            self.settle()?;
            let found = buffer.to_vec()?;
            if found.iter().any(|&sum| sum != expected) {
                return Err(self.cuda.peerless(format!("expected sums of {expected} by NCCL, found {found:?}")));
            }
        }
        Ok(())
    }

    /// Replaces values by their sums over all cards, in pairs and pairs of pairs: `((0 + 1) + (2 + 3)) + …`, each card
    /// adding up a part and giving the result to the others. The bits are those of the same sum on a processor. An error
    /// sticks, and the next download returns it.
    pub fn sum(&self, values: &mut FlatBuffer) {
        let flat = values.cuda();
        let segment = 2 * self.received.len();
        for start in (0..flat.len()).step_by(segment) {
            self.sum_segment(&flat.memory, start..flat.len().min(start + segment));
        }
        flat.changed();
    }

    /// The same as NCCL likes it best: its bits depend on the library, the cards and their number.
    pub fn sum_by_library(&self, values: &mut FlatBuffer) {
        let flat = values.cuda();
        if flat.len() > 0 {
            let memory = &flat.memory;
            self.run(|driver, communicator| communicator.all_reduce(driver, memory.address(0), memory.len()));
        }
        flat.changed();
    }

    /// Waits until the sums are there, once it is known that all cards take part in them. Where NCCL finds that another
    /// process or the network is gone, it gives up and ends what waits on the card; the error sticks.
    ///
    /// # Errors
    /// Whatever went wrong on the device, or between the cards.
    pub fn settle(&self) -> Result<(), DeviceError> {
        loop {
            let mut done = true;
            self.cuda.inner.run(|driver| {
                done = driver.is_done()?;
                if done { Ok(()) } else { locked(&self.communicator).check(driver) }
            });
            match self.cuda.inner.fault() {
                Some(fault) => return Err(fault),
                None if done => return Ok(()),
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    fn sum_segment(&self, values: &Memory, segment: std::ops::Range<usize>) {
        let received = &self.received;
        let mut own = segment;
        let mut halves = Vec::new();
        let mut distance = 1;
        while distance < self.size {
            let middle = own.start + own.len().div_ceil(2);
            let (lower, upper) = (own.start..middle, middle..own.end);
            let (kept, given) = if self.rank & distance == 0 { (lower, upper) } else { (upper, lower) };
            let partner = self.rank ^ distance;
            self.exchange(partner, (values, given.clone()), (received, 0..kept.len()));
            let arguments = [Arg::From(values, kept.start), Arg::Of(received), Arg::Count(kept.len())];
            self.cuda.launch(Source::Updates, "accumulate", spread(kept.len()), &arguments);
            halves.push((partner, kept.clone(), given));
            own = kept;
            distance *= 2;
        }
        for (partner, kept, given) in halves.into_iter().rev() {
            self.exchange(partner, (values, kept), (values, given));
        }
    }

    fn exchange(
        &self,
        partner: usize,
        sent: (&Memory, std::ops::Range<usize>),
        received: (&Memory, std::ops::Range<usize>),
    ) {
        let place = |(memory, range): (&Memory, std::ops::Range<usize>)| (memory.address(range.start), range.len());
        let (sent, received) = (place(sent), place(received));
        self.run(|driver, communicator| communicator.exchange(driver, partner, sent, received));
    }

    fn run(&self, work: impl FnOnce(&Driver, &Communicator) -> Result<(), Failure>) {
        self.cuda.inner.run(|driver| work(driver, &locked(&self.communicator)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::Device;
    use crate::ops::check::gpu;

    /// What each of so many cards has after a sum of the values that `of` gives each; nothing where there is no emulator.
    fn sums(size: usize, of: impl Fn(usize) -> Vec<f32> + Sync, sum: fn(&Peers, &mut FlatBuffer)) -> Vec<Vec<f32>> {
        // A real card is not given to several.
        if std::env::var_os("VITRAL_CHECK_CUDA").is_some() && size > 1 {
            return Vec::new();
        }
        let Some(device) = gpu() else { return Vec::new() };
        let key = library(&device).key().expect("a key");
        let all = Barrier::new(size);
        std::thread::scope(|scope| {
            let (of, key, all) = (&of, &key, &all);
            let card = |rank: usize| {
                let device = gpu().expect("there is one");
                let values = of(rank);
                let peers = library(&device).join(key, rank, size, values.len()).expect("cards that are connected");
                peers.try_out().expect("right sums");
                let mut buffer = device.flat_zeros(values.len());
                buffer.write(0, &values);
                sum(&peers, &mut buffer);
                peers.settle().expect("nobody has left");
                all.wait();
                buffer.to_vec().expect("no fault")
            };
            let running: Vec<_> = (0..size).map(|rank| scope.spawn(move || card(rank))).collect();
            running.into_iter().map(|card| card.join().expect("no panic")).collect()
        })
    }

    fn library(device: &Device) -> PeerLibrary {
        device.peer_library(None).expect("a card").expect("a library beside the others")
    }

    fn numbers(rank: usize, count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 31 + rank * 17) % 101) as f32 * 0.1 - 3.3 * (rank as f32 + 0.7)).collect()
    }

    /// In pairs, and pairs of pairs.
    fn in_pairs(values: &[Vec<f32>]) -> Vec<f32> {
        match values {
            [one] => one.clone(),
            _ => {
                let [left, right] = [&values[..values.len() / 2], &values[values.len() / 2..]].map(in_pairs);
                left.iter().zip(right).map(|(left, right)| left + right).collect()
            }
        }
    }

    #[test]
    fn sums_over_cards_have_the_bits_of_pairs() {
        for size in [1, 2, 4] {
            for count in [0, 1, 2, 5, 257, SEGMENT + 3] {
                let expected = in_pairs(&(0..size).map(|rank| numbers(rank, count)).collect::<Vec<_>>());
                for found in sums(size, |rank| numbers(rank, count), Peers::sum) {
                    assert_eq!(found, expected, "{count} values on {size} cards");
                }
            }
        }
    }

    #[test]
    fn sums_of_the_library_are_the_same_on_all_cards() {
        for size in [1, 2, 4] {
            for count in [0, 3, 1000] {
                let expected = in_pairs(&(0..size).map(|rank| numbers(rank, count)).collect::<Vec<_>>());
                let all = sums(size, |rank| numbers(rank, count), Peers::sum_by_library);
                for found in &all {
                    assert_eq!(found, &all[0]);
                    assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-4));
                }
            }
        }
    }

    #[test]
    fn who_waits_for_a_card_that_has_left_ends() {
        if std::env::var_os("VITRAL_CHECK_CUDA").is_some() {
            return;
        }
        let Some(device) = gpu() else { return };
        let key = library(&device).key().expect("a key");
        let left = Barrier::new(2);
        std::thread::scope(|scope| {
            let (key, left) = (&key, &left);
            let join = |rank| {
                let peers = library(&gpu().expect("there is one")).join(key, rank, 2, 8).expect("connected");
                peers.try_out().expect("right sums");
                peers
            };
            scope.spawn(move || {
                let peers = join(1);
                left.wait();
                drop(peers);
                left.wait();
            });
            let peers = join(0);
            left.wait();
            left.wait();
            let mut values = FlatBuffer(FlatStorage::Cuda(peers.cuda.flat_zeros(8)));
            values.write(0, &[1.0; 8]);
            let error = peers.settle().expect_err("the other has left").to_string();
            assert!(error.contains("another process failed"), "{error}");
            peers.sum(&mut values);
            assert_eq!(values.to_vec().expect_err("it sticks").to_string(), error);
        });
    }

    #[test]
    fn a_missing_library_and_a_wrong_key_are_said() {
        let Some(device) = gpu() else { return };
        let missing = device.peer_library(Some(Path::new("nowhere/libnccl.so.2"))).expect("a card");
        let error = missing.map(|_| ()).expect_err("there is none").to_string();
        assert!(error.contains("`nowhere/libnccl.so.2` is neither"), "{error}");
        let error = library(&device).join(&[1, 2], 0, 1, 1).expect_err("a short key").to_string();
        assert!(error.contains("expected a key of 128 bytes"), "{error}");
        assert!(Device::cpu(1).peer_library(None).is_none());
    }
}
