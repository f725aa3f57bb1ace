//! Images in several scans: every coefficient is kept until the last scan has been read.

use super::super::ImageError;
use super::super::{Format, Limits};
use super::entropy::{Bits, Entropy};
use super::frame::{Component, Frame};
use super::huffman::{Decoder, Kind};
use super::kernels::{Kernels, Work, dispatch};
use super::output::{Output, Strip};
use super::progressive::Band;
use super::scan::Scan;
use super::sequential::{Decoders, read_block};
use super::tables::{Quantization, Tables};
use super::transform;

/// The coefficients of a component, block by block in rows of whole units.
struct Plane {
    blocks: Vec<[i16; 64]>,
    /// Blocks in a row.
    across: usize,
}

/// The coefficients of every component.
pub(super) struct Stored {
    planes: Vec<Plane>,
}

impl Stored {
    /// Allocates a frame's coefficients, if the limits allow it.
    pub(super) fn new(frame: &Frame, limits: &Limits) -> Result<Self, ImageError> {
        let size = |component: &Component| {
            let (across, down) = frame.padded_blocks(component);
            (across, across * down)
        };
        let blocks: usize = frame.components.iter().map(|component| size(component).1).sum();
        let bytes = (frame.channels() * frame.width * frame.height + blocks * size_of::<[i16; 64]>()) as u64;
        let pixels = (frame.width * frame.height) as u64;
        limits.check(Format::Jpeg, frame.width, frame.height, bytes.div_ceil(pixels))?;
        let plane = |component| {
            let (across, count) = size(component);
            Plane { blocks: vec![[0; 64]; count], across }
        };
        Ok(Stored { planes: frame.components.iter().map(plane).collect() })
    }

    /// Reads a scan; returns where its data ends.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        start: usize,
        frame: &Frame,
        scan: &Scan,
        tables: &Tables,
    ) -> Result<usize, ImageError> {
        let pass = match (frame.progressive, scan.first, scan.high) {
            (false, ..) => Pass::Whole,
            (true, 0, 0) => Pass::FirstMeans,
            (true, 0, _) => Pass::RefineMeans,
            (true, _, 0) => Pass::FirstCoefficients,
            (true, ..) => Pass::RefineCoefficients,
        };
        let dc = matches!(pass, Pass::Whole | Pass::FirstMeans).then_some(Kind::Dc);
        let ac = match pass {
            Pass::Whole | Pass::FirstCoefficients => Some(Kind::Ac),
            Pass::RefineCoefficients => Some(Kind::Refinement),
            Pass::FirstMeans | Pass::RefineMeans => None,
        };
        let decoders = Decoders::new(scan, tables, dc, ac)?;
        let mut entropy = Entropy::new(bytes, start, tables.restart_interval)?;
        let alone = scan.parts.len() == 1;
        let mut streams = Vec::new();
        for part in &scan.parts {
            let component = &frame.components[part.component];
            streams.push(Stream {
                plane: part.component,
                dc: decoders.dc.get(part.dc).and_then(Option::as_ref),
                ac: decoders.ac.get(part.ac).and_then(Option::as_ref),
                // Without other components, a component's blocks come one by one, and only those that hold samples.
                across: if alone { 1 } else { component.across },
                down: if alone { 1 } else { component.down },
                previous: 0,
            });
        }
        let (across, down) = match scan.parts.as_slice() {
            [part] => (frame.components[part.component].blocks_across, frame.components[part.component].blocks_down),
            _ => (frame.units_across, frame.units_down),
        };
        let mut empty = 0;
        for row in 0..down {
            let mut column = 0;
            while column < across {
                let (run, restarted) = entropy.run(across - column)?;
                if restarted {
                    streams.iter_mut().for_each(|stream| stream.previous = 0);
                    empty = 0;
                }
                let (streams, planes, empty) = (&mut streams[..], &mut self.planes[..], &mut empty);
                let band = Band::of(scan);
                entropy.read(|bits| {
                    dispatch(Units { bits, streams, planes, pass, band, empty, row, first: column, count: run })
                });
                column += run;
            }
            if entropy.is_over() {
                break;
            }
        }
        Ok(entropy.end())
    }

    /// Makes the image from the coefficients.
    pub(super) fn finish(self, frame: &Frame) -> Vec<u8> {
        let mut output = Output::new(frame);
        for row in 0..frame.units_down {
            for ((plane, component), strip) in self.planes.iter().zip(&frame.components).zip(&mut output.strips) {
                let blocks = &plane.blocks[row * component.down * plane.across..][..component.down * plane.across];
                // A component without a scan is flat.
                let quantization = component.quantization.as_ref().unwrap_or(&[0; 64]);
                dispatch(Transformed { blocks, across: plane.across, quantization, strip });
            }
            output.finish_rows(frame);
        }
        output.pixels
    }
}

/// What a scan codes of its blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Everything: the file is sequential, but holds its components in separate scans.
    Whole,
    FirstMeans,
    RefineMeans,
    FirstCoefficients,
    RefineCoefficients,
}

/// The state of a component during a scan.
struct Stream<'a> {
    plane: usize,
    /// The tables, if used by the scan.
    dc: Option<&'a Decoder>,
    ac: Option<&'a Decoder>,
    across: usize,
    down: usize,
    /// The previous block's DC coefficient.
    previous: i32,
}

/// Neighboring units in a row.
struct Units<'a, 'b, 'c> {
    bits: &'a mut Bits<'b>,
    streams: &'a mut [Stream<'c>],
    planes: &'a mut [Plane],
    pass: Pass,
    band: Band,
    empty: &'a mut u32,
    row: usize,
    first: usize,
    count: usize,
}

impl Work for Units<'_, '_, '_> {
    /// The number of units read before the data ended.
    type Output = usize;

    #[inline(always)]
    fn run<K: Kernels>(self, _: K) -> usize {
        const MADE: &str = "built for the scan";
        let mut bits = *self.bits;
        let mut read = self.count;
        for unit in 0..self.count {
            for stream in self.streams.iter_mut() {
                let plane = &mut self.planes[stream.plane];
                for row in 0..stream.down {
                    for column in 0..stream.across {
                        let at = (self.row * stream.down + row) * plane.across;
                        let block = &mut plane.blocks[at + (self.first + unit) * stream.across + column];
                        let (bits, previous) = (&mut bits, &mut stream.previous);
                        match self.pass {
                            Pass::Whole => {
                                read_block(bits, stream.dc.expect(MADE), stream.ac.expect(MADE), previous, block);
                            }
                            Pass::FirstMeans => {
                                self.band.first_means(bits, stream.dc.expect(MADE), previous, block);
                            }
                            Pass::RefineMeans => self.band.refine_means(bits, block),
                            Pass::FirstCoefficients => {
                                self.band.first_coefficients(bits, stream.ac.expect(MADE), self.empty, block);
                            }
                            Pass::RefineCoefficients => {
                                self.band.refine_coefficients(bits, stream.ac.expect(MADE), self.empty, block);
                            }
                        }
                    }
                }
            }
            if bits.overdrawn() {
                read = unit + 1;
                break;
            }
        }
        *self.bits = bits;
        read
    }
}

/// Rows of blocks to samples.
struct Transformed<'a> {
    blocks: &'a [[i16; 64]],
    across: usize,
    quantization: &'a Quantization,
    strip: &'a mut Strip,
}

impl Work for Transformed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<K: Kernels>(self, kernels: K) {
        for (row, blocks) in self.blocks.chunks_exact(self.across).enumerate() {
            for (column, block) in blocks.iter().enumerate() {
                if block[1..].iter().fold(0, |all, coefficient| all | coefficient) == 0 {
                    self.strip.put_flat((row, column), transform::flat(block[0], self.quantization[0]));
                } else {
                    self.strip.put((row, column), kernels.inverse(block, self.quantization));
                }
            }
        }
    }
}
