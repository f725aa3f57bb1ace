//! Ranks that are threads of one process.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::link::{Carrier, Link};

/// One thread's ends of the channels to all others.
#[derive(Debug)]
pub(crate) struct ThreadLink {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

/// A link for each of so many threads.
pub(crate) fn links(count: usize) -> Vec<ThreadLink> {
    let mut links: Vec<ThreadLink> =
        (0..count).map(|rank| ThreadLink { rank, to: Vec::new(), from: Vec::new() }).collect();
    for sender in 0..count {
        for receiver in 0..count {
            let (to, from) = channel();
            links[sender].to.push(to);
            links[receiver].from.push(Mutex::new(from));
        }
    }
    links
}

impl Link for ThreadLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String> {
        self.send(to, sent)?;
        self.receive(from, received)
    }

    fn exchange_beside(
        &self,
        to: usize,
        sent: &[u8],
        from: usize,
        received: &mut [u8],
        _hurry: &AtomicBool,
    ) -> Result<(), String> {
        // Whoever waits for a channel sleeps.
        self.exchange(to, sent, from, received)
    }

    fn send(&self, to: usize, sent: &[u8]) -> Result<(), String> {
        self.to[to].send(sent.to_vec()).map_err(|_| format!("rank {to} has ended"))
    }

    fn receive(&self, from: usize, received: &mut [u8]) -> Result<(), String> {
        let channel = self.from[from].lock().unwrap_or_else(PoisonError::into_inner);
        let found = channel.recv().map_err(|_| format!("rank {from} has ended"))?;
        if found.len() != received.len() {
            return Err(format!("expected {} bytes of rank {from}, found {}", received.len(), found.len()));
        }
        received.copy_from_slice(&found);
        Ok(())
    }

    fn sum(&self, _values: &mut [f32]) -> Result<bool, String> {
        Ok(false)
    }

    fn carrier(&self) -> Carrier {
        Carrier { name: "threads of one process".to_owned(), path: String::new() }
    }

    fn abort(&self, _code: u8) {}

    fn finish(&self) {}
}
