//! The scan header: the components with their tables, and the part of the coefficients.

use super::super::ImageError;
use super::fault::corrupt;
use super::frame::Frame;
use super::tables::Tables;

/// The most blocks in a unit of several components.
const MOST_BLOCKS: usize = 10;

/// A component of a scan.
pub(super) struct Part {
    /// Its index in the frame.
    pub(super) component: usize,
    /// The indices of its Huffman tables.
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// SOS.
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// The first and the last coefficient, in the order of coding.
    pub(super) first: usize,
    pub(super) last: usize,
    /// The bit reached by earlier scans (0 if there were none), and the bit reached by this one.
    pub(super) high: u32,
    pub(super) low: u32,
}

impl Scan {
    pub(super) fn read(payload: &[u8], frame: &Frame) -> Result<Self, ImageError> {
        let count = usize::from(payload.first().copied().unwrap_or(0));
        if !(1..=4).contains(&count) || payload.len() != 4 + 2 * count {
            return Err(corrupt(format!("a scan header of {} bytes for {count} components", payload.len())));
        }
        let mut parts: Vec<Part> = Vec::new();
        for pair in payload[1..=2 * count].chunks_exact(2) {
            let (name, tables) = (pair[0], pair[1]);
            // Two components with the same identifier are distinguished by their order.
            let component = (parts.len()..frame.components.len())
                .find(|&index| frame.components[index].name == name)
                .filter(|&index| parts.iter().all(|part| part.component != index))
                .ok_or_else(|| corrupt(format!("a scan of component {name}")))?;
            parts.push(Part { component, dc: usize::from(tables >> 4), ac: usize::from(tables & 15) });
        }
        let blocks: usize = parts
            .iter()
            .map(|part| &frame.components[part.component])
            .map(|component| component.across * component.down)
            .sum();
        if count > 1 && blocks > MOST_BLOCKS {
            return Err(corrupt(format!("{blocks} blocks in a unit")));
        }
        let &[first, last, bits] = &payload[1 + 2 * count..] else { unreachable!("the length was checked") };
        let scan = Scan {
            parts,
            first: usize::from(first),
            last: usize::from(last),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        if frame.progressive {
            scan.check_progression()?;
        }
        Ok(scan)
    }

    /// Rejects invalid scans of a progressive file. In a sequential file, these fields are ignored.
    fn check_progression(&self) -> Result<(), ImageError> {
        let band = match self.first {
            0 => self.last == 0,
            first => first <= self.last && self.last < 64 && self.parts.len() == 1,
        };
        let bits = self.low <= 13 && (self.high == 0 || self.low + 1 == self.high);
        if band && bits {
            return Ok(());
        }
        let Scan { first, last, high, low, .. } = self;
        Err(corrupt(format!("a progressive scan of coefficients {first} to {last}, bits {high} to {low}")))
    }

    /// Keeps the quantization tables of components whose first scan this is: later scans may redefine them.
    pub(super) fn latch_quantization(&self, frame: &mut Frame, tables: &Tables) -> Result<(), ImageError> {
        for part in &self.parts {
            let component = &mut frame.components[part.component];
            if component.quantization.is_none() {
                let table = tables.quantization.get(component.table).copied().flatten();
                let missing = || corrupt(format!("no quantization table {}", component.table));
                component.quantization = Some(table.ok_or_else(missing)?);
            }
        }
        Ok(())
    }

    /// Whether one pass over this scan gives the whole image.
    pub(super) fn holds_all(&self, frame: &Frame) -> bool {
        !frame.progressive && self.parts.len() == frame.components.len()
    }
}
