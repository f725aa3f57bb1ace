//! Passes that are recorded once and replayed (CUDA graphs): small batches are bound by the time that launches take.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use super::api::driver::{Address, Recorded};
use super::gate;
use super::heap::{Heap, locked};
use super::memory::{Element, Memory};
use super::{Cuda, stored};
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Inputs of more values are not worth it: their kernels take longer than their launches.
const MOST_VALUES: usize = 64 * 3 * 224 * 224;
/// Recordings of one model; each keeps the memory that its pass needs.
const MOST_RECORDINGS: usize = 8;

/// Passes of one model that a device has recorded, by the shape of their input. On devices that record nothing it stays
/// empty.
#[derive(Debug, Default)]
pub struct Replays(Mutex<HashMap<(Shape, Precision), State>>);

enum State {
    /// The pass ran once: kernels are compiled and products chosen.
    Seen,
    Recorded(Recording),
    /// The pass does what cannot be recorded.
    Refused,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Seen => "Seen",
            State::Recorded(_) => "Recorded",
            State::Refused => "Refused",
        })
    }
}

/// A recorded pass, with all the memory that it reads and writes.
struct Recording {
    recorded: Recorded,
    input: Memory,
    outputs: Vec<Tensor>,
    /// Blocks that the pass uses in between.
    blocks: BTreeMap<usize, Vec<Address>>,
    /// Tables that the pass reads, which stay as long as it can be replayed.
    _tables: Vec<Memory>,
    heap: Arc<Heap>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.heap.run(|driver| driver.forget(&self.recorded));
        give_back(&self.heap, std::mem::take(&mut self.blocks));
    }
}

/// Puts blocks into the pool that everybody uses.
fn give_back(heap: &Heap, blocks: BTreeMap<usize, Vec<Address>>) {
    let mut pool = locked(&heap.pool);
    for (bytes, addresses) in blocks {
        pool.used -= bytes * addresses.len();
        pool.free.entry(bytes).or_default().extend(addresses);
    }
}

impl Cuda {
    /// See [`Device::replayed`](crate::Device::replayed).
    pub(in crate::device) fn replayed<E>(
        &self,
        replays: &Replays,
        input: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Vec<Tensor>, E>,
    ) -> Result<Vec<Tensor>, E> {
        // Within a pass that is recorded everything is part of that; large ones gain nothing.
        if gate::is_inside() || self.inner.rehearses() || input.shape().count() > MOST_VALUES {
            return pass(input);
        }
        let mut states = locked(&replays.0);
        let (key, room) = ((input.shape(), self.precision), states.len() < MOST_RECORDINGS);
        match states.get(&key) {
            None => {
                if room {
                    states.insert(key, State::Seen);
                }
                drop(states);
                return pass(input);
            }
            Some(State::Refused) => {
                drop(states);
                return pass(input);
            }
            Some(State::Seen) => {
                let state = self.record(input, &pass)?.map_or(State::Refused, State::Recorded);
                states.insert(key, state);
            }
            Some(State::Recorded(_)) => {}
        }
        let Some(State::Recorded(recording)) = states.get(&key) else {
            drop(states);
            return pass(input);
        };
        let from = self.wide(stored(input));
        self.inner.run(|driver| {
            driver.copy(recording.input.address(0), from.address(0), from.bytes())?;
            driver.replay(&recording.recorded)
        });
        // The next replay writes to the same memory.
        let copied = |tensor: &Tensor| Cuda::tensor(tensor.shape(), self.copied(stored(tensor)));
        Ok(recording.outputs.iter().map(copied).collect())
    }

    /// Records a pass; nothing if it cannot be.
    fn record<E>(
        &self,
        input: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Vec<Tensor>, E>,
    ) -> Result<Option<Recording>, E> {
        let alone = self.inner.gate.alone();
        let memory = self.allocate(Element::F32, input.shape().count());
        let own = Cuda::tensor(input.shape(), memory.clone());
        // Once more unrecorded, so that the pool has every block that the pass needs: none can be had while recording.
        drop(pass(&Cuda::tensor(input.shape(), self.wide(stored(input))))?);
        if self.inner.fault().is_some() || self.inner.driver.wait().is_err() {
            return Ok(None);
        }
        if let Err(failure) = self.inner.driver.begin_recording() {
            self.inner.fail_with(&failure);
            return Ok(None);
        }
        locked(&self.inner.pool).recorded = Some(HashSet::new());
        locked(&self.inner.tables).recorded.clear();
        gate::begin();
        // A panic goes on when the stream is as it was.
        let outputs = catch_unwind(AssertUnwindSafe(|| pass(&own)));
        let given_up = !gate::end();
        let ended = self.inner.driver.end_recording();
        let blocks = locked(&self.inner.pool).take_recorded();
        let tables = std::mem::take(&mut locked(&self.inner.tables).recorded);
        drop(alone);
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(panic) => {
                give_back(&self.inner, blocks);
                resume_unwind(panic);
            }
        };
        let recorded = match ended {
            Ok(recorded) if !given_up => recorded,
            // Whatever the pass gave is of memory that it never had.
            ended => {
                if let Ok(recorded) = ended {
                    self.inner.run(|driver| driver.forget(&recorded));
                }
                give_back(&self.inner, blocks);
                return Ok(None);
            }
        };
        match outputs {
            Ok(outputs) => {
                let heap = Arc::clone(&self.inner.heap);
                Ok(Some(Recording { recorded, input: memory, outputs, blocks, _tables: tables, heap }))
            }
            Err(error) => {
                give_back(&self.inner, blocks);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::gate::is_recording;
    use super::*;
    use crate::arena::{Declarations, ParameterKind, Parameters};
    use crate::device::Device;
    use crate::device::DeviceError;
    use crate::device::backend::RotationTable;
    use crate::dtype::DType;
    use crate::ops::{Attention, Linear};
    use crate::random::normal;
    use crate::tape::Context;

    /// Linear maps and attention, as they follow one another in a block.
    fn pass(parameters: &Parameters, x: &Tensor) -> Result<Vec<Tensor>, DeviceError> {
        let cx = Context::inference(parameters);
        let ids: Vec<_> = parameters.declarations().ids().collect();
        let qkv = cx.linear(x, Linear { weight: ids[0], bias: Some(ids[1]) });
        let settings =
            Attention { heads: 1, scale: 0.2, key_mask: None, bias: None, dropout: 0.0, queries: None, capture: false };
        let attended = cx.attention(&qkv, settings).output;
        Ok(vec![cx.mean_tokens(&attended, 0), attended])
    }

    #[test]
    fn replays_give_the_bits_of_the_pass() {
        let Some(device) = crate::ops::check::gpu() else { return };
        for precision in [Precision::F32, Precision::Bf16] {
            let device = device.clone().with_precision(precision).expect("a GPU has it");
            let mut declarations = Declarations::default();
            declarations.declare("weight", &[96, 32], ParameterKind::Matrix);
            declarations.declare("bias", &[96], ParameterKind::Plain);
            let read = |spec: &crate::arena::ParameterSpec| {
                let values: Vec<f32> = (0..spec.count()).map(|i| 0.2 * normal(1, i as u64)).collect();
                Ok::<_, DeviceError>(values.into())
            };
            let parameters =
                Parameters::prepared(declarations, device.clone(), DType::F32, read).expect("a device without a fault");
            let replays = Replays::default();
            for turn in 0..5u64 {
                let pixels: Vec<f32> = (0..2 * 70 * 32).map(|i| normal(turn, i)).collect();
                let x = device.upload([2, 70, 32], &pixels).expect("a device without a fault");
                let values = |tensors: Vec<Tensor>| -> Vec<Vec<f32>> {
                    tensors.iter().map(|tensor| tensor.to_vec().expect("a device without a fault")).collect()
                };
                let expected = values(pass(&parameters, &x).expect("a pass"));
                let made = device.replayed(&replays, &x, |x| pass(&parameters, x)).expect("a pass");
                // The next replay must not write to what this one gave.
                device.replayed(&replays, &device.zeros([2, 70, 32]), |x| pass(&parameters, x)).expect("a pass");
                assert_eq!(values(made), expected, "turn {turn} in {precision}");
            }
            let states = locked(&replays.0);
            assert!(states.values().all(|state| matches!(state, State::Recorded(_))), "{states:?}");
        }
    }

    #[test]
    fn a_pass_with_rotary_positions_is_recorded() {
        let Some(device) = crate::ops::check::gpu() else { return };
        let replays = Replays::default();
        let table = |values: [f32; 4]| Arc::from(values.as_slice());
        let rotation = RotationTable {
            prefix: 0,
            pairs: 2,
            cosines: table([0.0, 1.0, 0.5, 0.25]),
            sines: table([1.0, 0.0, 0.5, 0.75]),
        };
        for turn in 1..5u64 {
            let values: Vec<f32> = (0..24).map(|i| normal(turn, i)).collect();
            let x = device.upload([1, 2, 12], &values).expect("a device without a fault");
            let pass = |x: &Tensor| Ok::<_, DeviceError>(vec![device.backend().rotate(x, &rotation, false)]);
            let expected = pass(&x).expect("a pass")[0].to_vec();
            let made = device.replayed(&replays, &x, pass).expect("a pass");
            assert_eq!(made[0].to_vec(), expected, "turn {turn}");
        }
        assert!(locked(&replays.0).values().all(|state| matches!(state, State::Recorded(_))));
        // Tables of others push this one out; the recording still has it.
        let x = device.upload([1, 2, 12], &[1.0; 24]).expect("a device without a fault");
        let pass = |x: &Tensor| Ok::<_, DeviceError>(vec![device.backend().rotate(x, &rotation, false)]);
        let expected = pass(&x).expect("a pass")[0].to_vec();
        for other in 0..40 {
            let others = table([other as f32 + 0.125, 2.0, 3.0, 4.0]);
            let other = RotationTable { cosines: Arc::clone(&others), sines: others, ..rotation.clone() };
            device.backend().rotate(&x, &other, false);
        }
        let made = device.replayed(&replays, &x, pass).expect("a pass");
        assert_eq!(made[0].to_vec(), expected);
    }

    #[test]
    fn a_pass_that_copies_from_the_host_is_not_recorded() {
        let Some(device) = crate::ops::check::gpu() else { return };
        let replays = Replays::default();
        for turn in 1..5 {
            let x = device.full([4], turn as f32);
            let kept = Arc::from([2usize, 0].as_slice());
            let pass = |x: &Tensor| {
                Ok::<_, DeviceError>(vec![device.backend().gather_tokens(&x.reshape([1, 4, 1]), &kept, 2)])
            };
            let made = device.replayed(&replays, &x, pass).expect("a pass");
            assert_eq!(made[0].to_vec(), Ok(vec![turn as f32; 2]));
        }
        assert!(locked(&replays.0).values().all(|state| matches!(state, State::Refused)));
    }

    #[test]
    fn a_pass_that_reads_or_waits_is_not_recorded() {
        let Some(device) = crate::ops::check::gpu() else { return };
        let replays = Replays::default();
        for turn in 1..5 {
            let x = device.full([4], turn as f32);
            let pass = |x: &Tensor| {
                device.wait()?;
                device.trim();
                let read = x.to_vec()?;
                Ok::<_, DeviceError>(vec![device.backend().scale(x, read[0])])
            };
            let made = device.replayed(&replays, &x, pass).expect("a pass");
            assert_eq!(made[0].to_vec(), Ok(vec![(turn * turn) as f32; 4]));
        }
        assert!(locked(&replays.0).values().all(|state| matches!(state, State::Refused)));
    }

    #[test]
    fn a_pass_that_fails_or_panics_leaves_the_device_as_it_was() {
        let Some(device) = crate::ops::check::gpu() else { return };
        let replays = Replays::default();
        let x = device.full([4], 2.0);
        let turns = Cell::new(0);
        for ends in [false, true, false, false] {
            let pass = |x: &Tensor| {
                turns.set(turns.get() + 1);
                let doubled = device.backend().scale(x, 2.0);
                // The first turn is the one without a recording.
                if is_recording() && ends {
                    panic!("as it was asked to");
                }
                if is_recording() && turns.get() < 6 {
                    return Err("as it was asked to".to_owned());
                }
                Ok(vec![doubled])
            };
            let run = || device.replayed(&replays, &x, pass);
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(made)) => assert_eq!(made[0].to_vec(), Ok(vec![4.0; 4])),
                Ok(Err(reason)) => assert_eq!(reason, "as it was asked to"),
                Err(_) => assert!(ends),
            }
            assert_eq!(device.full([3], 1.0).to_vec(), Ok(vec![1.0; 3]), "the device goes on");
            let Device::Cuda(cuda) = &device else { unreachable!() };
            let pool = locked(&cuda.inner.pool);
            assert!(pool.recorded.is_none() && !is_recording());
        }
    }

    #[test]
    fn threads_work_beside_one_that_records() {
        let Some(device) = crate::ops::check::gpu() else { return };
        let device = device.with_precision(Precision::Bf16).expect("a GPU has it");
        let mut declarations = Declarations::default();
        declarations.declare("weight", &[96, 32], ParameterKind::Matrix);
        declarations.declare("bias", &[96], ParameterKind::Plain);
        let mut parameters = Parameters::zeros(declarations, device.clone());
        for id in parameters.declarations().ids().collect::<Vec<_>>() {
            let count = parameters.declarations().spec(id).count();
            parameters.write(id, &(0..count).map(|i| 0.2 * normal(1, i as u64)).collect::<Vec<_>>());
        }
        let (parameters, replays) = (&parameters, &Replays::default());
        std::thread::scope(|scope| {
            for thread in 0..3usize {
                let device = device.clone();
                scope.spawn(move || {
                    for turn in 0..6u64 {
                        let tokens = 5 + thread;
                        let pixels: Vec<f32> = (0..tokens * 32).map(|i| normal(turn, i as u64)).collect();
                        let x = device.upload([1, tokens, 32], &pixels).expect("a device without a fault");
                        let values = |tensors: Vec<Tensor>| -> Vec<Vec<f32>> {
                            tensors.iter().map(|tensor| tensor.to_vec().expect("a device without a fault")).collect()
                        };
                        let expected = values(pass(parameters, &x).expect("a pass"));
                        let made = device.replayed(replays, &x, |x| {
                            // Large enough to go through pinned memory.
                            drop(device.constant([1 << 18], &vec![1.0; 1 << 18]));
                            pass(parameters, x)
                        });
                        assert_eq!(values(made.expect("a pass")), expected, "thread {thread}, turn {turn}");
                        let plain = device.replayed(replays, &x, |x| pass(parameters, x)).expect("a pass");
                        assert_eq!(values(plain), expected, "thread {thread}, turn {turn}");
                        device.trim();
                    }
                });
            }
        });
    }
}
