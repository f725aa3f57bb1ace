//! What carries bytes between ranks.

use std::fmt;
use std::sync::atomic::AtomicBool;

/// The least that a carrier must do. Every collective operation is made of these.
pub(crate) trait Link: Send + Sync + fmt::Debug {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Sends to one rank while receiving from another, which may be the same. The lengths are known to both sides.
    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String>;

    /// As [`Link::exchange`], by a thread beside one that computes: leaves the processor to it while it waits, unless
    /// there is a `hurry`.
    fn exchange_beside(
        &self,
        to: usize,
        sent: &[u8],
        from: usize,
        received: &mut [u8],
        hurry: &AtomicBool,
    ) -> Result<(), String>;

    /// Sends to a rank that receives.
    fn send(&self, to: usize, sent: &[u8]) -> Result<(), String>;

    /// Receives from a rank that sends.
    fn receive(&self, from: usize, received: &mut [u8]) -> Result<(), String>;

    /// The carrier's own sum over all ranks, if it has one; false if not.
    fn sum(&self, values: &mut [f32]) -> Result<bool, String>;

    /// What it is.
    fn carrier(&self) -> Carrier;

    /// Ends all ranks.
    fn abort(&self, code: u8);

    /// Ends this rank's part.
    fn finish(&self);
}

/// What carries the data between ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Its name and version, on one line.
    pub name: String,
    /// The library's file; empty for threads.
    pub path: String,
}
