//! What panels of `B` that are packed anew hold.

use super::isa::Isa;
use super::matrix_b::{MatrixB, Panels, pack_panel, packed_len};
use super::narrow::{WordPanels, Words, pack_bf16_panel};

/// What panels of `B` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PanelKind {
    /// 32-bit floats.
    Float,
    /// Pairs of bfloat16, rounded as they are packed.
    Bf16,
}

impl PanelKind {
    /// Words of one panel.
    pub(super) fn panel_len(self, isa: Isa, depth: usize) -> usize {
        isa.panel()
            * match self {
                PanelKind::Float => depth,
                PanelKind::Bf16 => Words::Bf16.of(depth),
            }
    }

    /// Words of all panels of `[depth, columns]`.
    pub(crate) fn packed_len(self, isa: Isa, depth: usize, columns: usize) -> usize {
        match self {
            PanelKind::Float => packed_len(isa, depth, columns),
            PanelKind::Bf16 => packed_len(isa, Words::Bf16.of(depth), columns),
        }
    }

    /// Packs one panel.
    pub(super) fn pack(self, isa: Isa, b: MatrixB<'_>, [depth, columns]: [usize; 2], panel: usize, out: &mut [f32]) {
        match self {
            PanelKind::Float => pack_panel(isa, b, depth, columns, panel, out),
            PanelKind::Bf16 => pack_bf16_panel(isa, b, (depth, columns), panel, out),
        }
    }

    /// Packed panels, as a product reads them.
    pub(super) fn panels(self, data: &[f32]) -> Panels<'_> {
        match self {
            PanelKind::Float => Panels::F32(data),
            PanelKind::Bf16 => Panels::Words(WordPanels::bf16(data)),
        }
    }
}
