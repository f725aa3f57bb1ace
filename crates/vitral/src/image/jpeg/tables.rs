//! The tables that scans refer to by index.

use super::super::ImageError;
use super::fault::corrupt;
use super::huffman::Codes;
use super::standard_tables;

/// The position in a block, row by row, of each coefficient in coding order. Broken data may run up to 15 positions
/// beyond the last coefficient, and is stored there, as in libjpeg.
pub(super) const NATURAL: [u8; 80] = {
    let mut order = [63; 80];
    let (mut row, mut column) = (0usize, 0usize);
    let mut index = 0;
    while index < 64 {
        order[index] = (row * 8 + column) as u8;
        let upwards = (row + column).is_multiple_of(2);
        match (upwards, row, column) {
            (true, _, 7) => row += 1,
            (true, 0, _) => column += 1,
            (true, _, _) => (row, column) = (row - 1, column + 1),
            (false, 7, _) => column += 1,
            (false, _, 0) => row += 1,
            (false, _, _) => (row, column) = (row + 1, column - 1),
        }
        index += 1;
    }
    order
};

/// Factors of a block's coefficients, row by row.
pub(super) type Quantization = [i16; 64];

/// Huffman codes by index.
pub(super) type Codes4 = [Option<Codes>; 4];

/// All tables defined so far.
#[derive(Clone, Default)]
pub(in crate::image) struct Tables {
    pub(super) quantization: [Option<Quantization>; 4],
    pub(super) dc: Codes4,
    pub(super) ac: Codes4,
    /// Units between two restart markers; 0 if there are none.
    pub(super) restart_interval: usize,
}

impl Tables {
    /// DQT.
    pub(super) fn read_quantization(&mut self, mut payload: &[u8]) -> Result<(), ImageError> {
        while let [head, rest @ ..] = payload {
            let wide = head >> 4 != 0;
            let length = if wide { 128 } else { 64 };
            let (table, rest) =
                rest.split_at_checked(length).ok_or_else(|| corrupt("a quantization table cut short"))?;
            let slot = self.quantization.get_mut(usize::from(head & 15));
            let slot = slot.ok_or_else(|| corrupt(format!("quantization table {}", head & 15)))?;
            let mut factors = [0; 64];
            for (index, &place) in NATURAL[..64].iter().enumerate() {
                let factor = match wide {
                    true => u16::from_be_bytes([table[2 * index], table[2 * index + 1]]),
                    false => u16::from(table[index]),
                };
                // Products are computed modulo 2^16, so the sign does not matter.
                factors[usize::from(place)] = factor as i16;
            }
            *slot = Some(factors);
            payload = rest;
        }
        Ok(())
    }

    /// DHT.
    pub(super) fn read_codes(&mut self, mut payload: &[u8]) -> Result<(), ImageError> {
        while let [head, rest @ ..] = payload {
            let short = || corrupt("a Huffman table cut short");
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or_else(short)?;
            let slots = if head & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = slots.get_mut(usize::from(head & !0x10));
            *slot.ok_or_else(|| corrupt(format!("Huffman table {head:02X}")))? = Some(Codes::new(*counts, symbols)?);
            payload = rest;
        }
        Ok(())
    }

    /// DRI.
    pub(super) fn read_restart_interval(&mut self, payload: &[u8]) -> Result<(), ImageError> {
        let &[high, low] = payload else { return Err(corrupt("a restart interval that is not two bytes long")) };
        self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
        Ok(())
    }

    /// Fills in the codes of the standard's annex K that the file does not define.
    pub(super) fn fill_in_standard_codes(&mut self) {
        let [dc, ac] = standard_tables::both();
        for (slots, codes) in [(&mut self.dc, dc), (&mut self.ac, ac)] {
            for (slot, (counts, symbols)) in slots.iter_mut().zip(codes) {
                slot.get_or_insert_with(|| Codes::new(*counts, symbols).expect("the standard's own codes"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_matches_the_standard() {
        assert_eq!(NATURAL[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(NATURAL[30..40], [21, 28, 35, 42, 49, 56, 57, 50, 43, 36]);
        assert_eq!(NATURAL[56..66], [53, 60, 61, 54, 47, 55, 62, 63, 63, 63]);
    }
}
