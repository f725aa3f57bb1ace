//! Sequential coding: all coefficients of a block at once.

use std::array;

use super::super::ImageError;
use super::entropy::{Bits, Entropy};
use super::frame::Frame;
use super::huffman::{Decoder, Kind, extended};
use super::kernels::{Kernels, Work, dispatch};
use super::output::{Output, Strip};
use super::scan::Scan;
use super::tables::{Codes4, NATURAL, Quantization, Tables};
use super::{corrupt, transform};

/// The Huffman tables of a scan, by index.
pub(super) struct Decoders {
    pub(super) dc: [Option<Decoder>; 4],
    pub(super) ac: [Option<Decoder>; 4],
}

impl Decoders {
    /// Builds the tables that a scan uses; `dc` and `ac` say whether it codes such coefficients, and how.
    pub(super) fn new(scan: &Scan, tables: &Tables, dc: Option<Kind>, ac: Option<Kind>) -> Result<Self, ImageError> {
        let made = |kind: Option<Kind>, codes: &Codes4, number: fn(&super::scan::Part) -> usize| {
            let mut decoders = array::from_fn(|_| None);
            let Some(kind) = kind else { return Ok(decoders) };
            for part in &scan.parts {
                let number = number(part);
                let codes = codes.get(number).and_then(|codes| codes.as_ref());
                let codes = codes.ok_or_else(|| corrupt(format!("no Huffman table {number}")))?;
                if decoders[number].is_none() {
                    decoders[number] = Some(Decoder::new(codes, kind)?);
                }
            }
            Ok::<_, ImageError>(decoders)
        };
        Ok(Decoders { dc: made(dc, &tables.dc, |part| part.dc)?, ac: made(ac, &tables.ac, |part| part.ac)? })
    }

    /// The table built by [`new`](Self::new).
    pub(super) fn of(decoders: &[Option<Decoder>; 4], number: usize) -> &Decoder {
        decoders[number].as_ref().expect("built for the scan")
    }
}

/// Reads a block's coefficients; returns the index of the last one that is not zero, in coding order.
#[inline(always)]
pub(super) fn read_block(
    bits: &mut Bits,
    dc: &Decoder,
    ac: &Decoder,
    previous: &mut i32,
    block: &mut [i16; 64],
) -> usize {
    *previous = previous.wrapping_add(read_difference(bits, dc));
    block[0] = *previous as i16;
    let (mut index, mut last) = (1, 0);
    while index < 64 {
        bits.refill();
        let entry = ac.look(bits);
        let value = if entry.value() != 0 {
            bits.skip(entry.length());
            index += entry.symbol() as usize;
            entry.value()
        } else {
            let symbol = ac.finish(entry, bits);
            let (run, size) = (symbol >> 4, symbol & 15);
            if size == 0 {
                if run != 15 {
                    break;
                }
                index += 16;
                continue;
            }
            index += run as usize;
            extended(bits.take(size), size)
        };
        last = index;
        block[usize::from(NATURAL[index]) & 63] = value as i16;
        index += 1;
    }
    last
}

/// Reads the difference between a block's DC coefficient and the previous one.
#[inline(always)]
pub(super) fn read_difference(bits: &mut Bits, dc: &Decoder) -> i32 {
    bits.refill();
    let size = dc.symbol(bits);
    extended(bits.take(size), size)
}

/// The state of a component during a scan.
struct Stream<'a> {
    dc: &'a Decoder,
    ac: &'a Decoder,
    quantization: &'a Quantization,
    across: usize,
    down: usize,
    /// The previous block's DC coefficient.
    previous: i32,
}

/// Decodes a scan that holds every component, one row of units at a time, and finishes the rows while they are in the
/// cache. Returns the pixels, and where the scan's data ends.
pub(super) fn decode(
    bytes: &[u8],
    start: usize,
    frame: &Frame,
    scan: &Scan,
    tables: &Tables,
) -> Result<(Vec<u8>, usize), ImageError> {
    let mut entropy = Entropy::new(bytes, start, tables.restart_interval)?;
    let decoders = Decoders::new(scan, tables, Some(Kind::Dc), Some(Kind::Ac))?;
    let mut streams: Vec<Stream> = Vec::new();
    for part in &scan.parts {
        let component = &frame.components[part.component];
        streams.push(Stream {
            dc: Decoders::of(&decoders.dc, part.dc),
            ac: Decoders::of(&decoders.ac, part.ac),
            quantization: component.quantization.as_ref().expect("latched with the scan"),
            across: component.across,
            down: component.down,
            previous: 0,
        });
    }
    let mut output = Output::new(frame);
    for _ in 0..frame.units_down {
        let mut column = 0;
        while column < frame.units_across {
            let (run, restarted) = entropy.run(frame.units_across - column)?;
            if restarted {
                streams.iter_mut().for_each(|stream| stream.previous = 0);
            }
            let (streams, strips) = (&mut streams[..], &mut output.strips[..]);
            let read = entropy.read(|bits| dispatch(Units { bits, streams, strips, first: column, count: run }));
            for (stream, strip) in streams.iter().zip(strips) {
                strip.gray((column + read) * stream.across..(column + run) * stream.across);
            }
            column += run;
        }
        output.finish_rows(frame);
    }
    Ok((output.pixels, entropy.end()))
}

/// Neighboring units in a row.
struct Units<'a, 'b, 'c> {
    bits: &'a mut Bits<'b>,
    streams: &'a mut [Stream<'c>],
    strips: &'a mut [Strip],
    first: usize,
    count: usize,
}

impl Work for Units<'_, '_, '_> {
    /// The number of units read before the data ended.
    type Output = usize;

    #[inline(always)]
    fn run<K: Kernels>(self, kernels: K) -> usize {
        let Units { bits: outer, streams, strips, first, count } = self;
        let mut bits = *outer;
        let mut read = count;
        let mut block = [0; 64];
        for unit in 0..count {
            for (stream, strip) in streams.iter_mut().zip(strips.iter_mut()) {
                for row in 0..stream.down {
                    for column in 0..stream.across {
                        let place = (row, (first + unit) * stream.across + column);
                        let last = read_block(&mut bits, stream.dc, stream.ac, &mut stream.previous, &mut block);
                        if last == 0 {
                            strip.put_flat(place, transform::flat(block[0], stream.quantization[0]));
                        } else {
                            strip.put(place, kernels.inverse(&block, stream.quantization));
                            block = [0; 64];
                        }
                    }
                }
            }
            if bits.overdrawn() {
                read = unit + 1;
                break;
            }
        }
        *outer = bits;
        read
    }
}
