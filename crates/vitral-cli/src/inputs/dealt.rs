//! Images dealt to ranks: each takes blocks of them through the model, and the first gets all rows in the order of images.

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use vitral::Model;
use vitral::atomic::discard_unfinished;
use vitral::pipeline::Batch;
use vitral_ranks::Ranks;

use super::{Found, InputArgs, Records, Skipped, Source};
use crate::fault::{self, Fault, Usage};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, agree};

/// An image's shape and values.
pub(crate) type Row = (Vec<usize>, Vec<f32>);

/// What became of an image.
enum Seen {
    Row(String, Row),
    Skipped(Skipped),
}

/// A block of images, as one rank tells the first of it.
#[derive(Default)]
struct Block {
    images: Vec<Seen>,
    /// What the rank would have printed to standard error.
    said: Vec<String>,
}

/// A block without its values, which follow it.
#[derive(Serialize, Deserialize)]
struct Header {
    /// Name and shape, or what is wrong with the image.
    images: Vec<Result<(String, Vec<usize>), Skipped>>,
    said: Vec<String>,
    /// The rank cannot go on.
    failed: Option<String>,
}

impl<const REQUIRED: bool> InputArgs<REQUIRED> {
    /// Like [`InputArgs::each_row`], with the work dealt to ranks; `show` is called on the first.
    pub(crate) fn each_row_dealt(
        &self,
        mut found: Found,
        model: &Model,
        settings: &Settings,
        printer: &Printer,
        each: impl FnMut(&[String], &Batch) -> anyhow::Result<Vec<Row>>,
        mut show: impl FnMut(&str, Row) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let ranks = &settings.ranks;
        if !ranks.is_several() {
            return self.each_row(found, model, settings, printer, each, show);
        }
        let (size, total) = (self.batch(), found.sources.len());
        let blocks = total.div_ceil(size);
        // Every rank lists the images, which have to be the same.
        let names: Vec<String> = found.names().collect();
        let fed = found.sources.iter().any(|source| matches!(source, Source::StandardInput(_)));
        let names = match fed {
            true => Err(Usage("standard input reaches one rank only; give several ranks files".to_owned()).into()),
            false => Ok(serde_json::to_vec(&names)?),
        };
        let listed = agree(ranks, names)?;
        if listed.iter().any(|other| *other != listed[0]) {
            return Err(anyhow!("ranks find different images: every rank has to see the same files"));
        }
        let skipped = if ranks.is_first() { std::mem::take(&mut found.skipped) } else { Vec::new() };
        let records = std::mem::replace(&mut found.records, Records::None);
        let own = |place: usize| place / size % ranks.size() == ranks.rank();
        let mut place = 0..;
        found.sources.retain(|_| own(place.next().unwrap_or(0)));
        let mut missing = skipped.len();
        let mut take = |seen: Seen| -> anyhow::Result<()> {
            match seen {
                Seen::Row(name, row) => show(&name, row),
                Seen::Skipped(skipped) => {
                    missing += 1;
                    if records == Records::Json { skipped.print(printer) } else { Ok(()) }
                }
            }
        };
        for skipped in &skipped {
            if records == Records::Json {
                skipped.print(printer)?;
            }
        }
        let mut dealt = Dealt { ranks, printer, size, total, block: ranks.rank(), next: 0, gathered: Block::default() };
        let worked = self.each_seen(found, model, settings, printer, each, |seen| dealt.add(seen, &mut take));
        if let Err(error) = worked.and_then(|()| dealt.receive_until(blocks, &mut take)) {
            dealt.fail(&error);
        }
        super::summarize(missing, total + skipped.len(), printer)
    }

    /// Passes on what became of each image, in order.
    fn each_seen(
        &self,
        found: Found,
        model: &Model,
        settings: &Settings,
        printer: &Printer,
        mut each: impl FnMut(&[String], &Batch) -> anyhow::Result<Vec<Row>>,
        mut pass: impl FnMut(Seen) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.take_batches(found, model, settings, printer, |batch, names, skipped| {
            let rows = if names.is_empty() { vec![] } else { each(names, batch)? };
            let mut skipped = skipped.into_iter().peekable();
            for ((index, name), row) in batch.indices.iter().zip(names).zip(rows) {
                while let Some((_, before)) = skipped.next_if(|(place, _)| place < index) {
                    pass(Seen::Skipped(before))?;
                }
                pass(Seen::Row(name.clone(), row))?;
            }
            skipped.try_for_each(|(_, after)| pass(Seen::Skipped(after)))
        })?;
        Ok(())
    }
}

/// A rank's place in the work.
struct Dealt<'a> {
    ranks: &'a Ranks,
    printer: &'a Printer,
    /// Images in a block, and in all.
    size: usize,
    total: usize,
    /// The block at work.
    block: usize,
    /// On the first rank: the block whose rows come next.
    next: usize,
    gathered: Block,
}

impl Dealt<'_> {
    /// Takes one of this rank's own images.
    fn add(&mut self, seen: Seen, take: &mut dyn FnMut(Seen) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.gathered.images.push(seen);
        let of_block = self.size.min(self.total - self.block * self.size);
        if self.gathered.images.len() < of_block {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let block = self.block;
        self.block += self.ranks.size();
        if !self.ranks.is_first() {
            let said = self.printer.take_said();
            return Ok(self.ranks.send(0, &Block { said, ..gathered }.to_bytes(None))?);
        }
        self.receive_until(block, take)?;
        self.next = block + 1;
        gathered.images.into_iter().try_for_each(take)
    }

    /// On the first rank: takes the blocks of others up to one.
    fn receive_until(&mut self, block: usize, take: &mut dyn FnMut(Seen) -> anyhow::Result<()>) -> anyhow::Result<()> {
        while self.ranks.is_first() && self.next < block {
            let rank = self.next % self.ranks.size();
            let Block { images, said } = Block::from_bytes(&self.ranks.receive(rank)?, rank)?;
            said.iter().for_each(|line| self.printer.fault(line));
            let count = images.len();
            images.into_iter().try_for_each(&mut *take)?;
            self.printer.advance(count)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Ends all ranks. Others wait for somebody who takes their rows, and cannot be told.
    fn fail(&self, error: &anyhow::Error) -> ! {
        let (fault, message) = (Fault::of(error), fault::line(error));
        if self.ranks.is_first() {
            self.printer.finish_progress();
            if fault != Fault::OutputClosed {
                self.printer.fault(format_args!("error: {message}"));
            }
            discard_unfinished();
            self.ranks.abort(fault.code());
        }
        // If even this fails, the end of this process ends the others.
        if self.ranks.send(0, &Block::default().to_bytes(Some(message))).is_ok() {
            // Until the first rank has said so, and ends all.
            let _ = self.ranks.receive(0);
        }
        self.ranks.abort(fault.code())
    }
}

impl Block {
    fn to_bytes(&self, failed: Option<String>) -> Vec<u8> {
        let mut values: Vec<f32> = Vec::new();
        let images = self.images.iter().map(|seen| match seen {
            Seen::Row(name, (shape, row)) => {
                values.extend(row);
                Ok((name.clone(), shape.clone()))
            }
            Seen::Skipped(skipped) => Err(skipped.clone()),
        });
        let header = Header { images: images.collect(), said: self.said.clone(), failed };
        let header = serde_json::to_vec(&header).expect("plain data");
        [&(header.len() as u64).to_le_bytes(), &header[..], bytemuck::cast_slice(&values)].concat()
    }

    fn from_bytes(bytes: &[u8], rank: usize) -> anyhow::Result<Self> {
        let strange = || anyhow!("rank {rank} sends something else than rows: it runs another version of this program");
        let (length, rest) = bytes.split_first_chunk().ok_or_else(strange)?;
        let (header, values) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(strange)?;
        let Header { images, said, failed } = serde_json::from_slice(header)?;
        if let Some(message) = failed {
            return Err(anyhow!("rank {rank}: {message}"));
        }
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(values);
        let mut values = &values[..];
        let images = images.into_iter().map(|image| {
            Ok(match image {
                Ok((name, shape)) => {
                    let (row, rest) = values.split_at_checked(shape.iter().product()).ok_or_else(strange)?;
                    values = rest;
                    Seen::Row(name, (shape, row.to_vec()))
                }
                Err(skipped) => Seen::Skipped(skipped),
            })
        });
        Ok(Block { images: images.collect::<anyhow::Result<_>>()?, said })
    }
}
