//! What a strip or tile is to be restored to.

/// The rows of a strip or tile.
pub(super) struct Rows {
    /// Columns.
    pub(super) width: usize,
    /// Bytes in a row.
    pub(super) stride: usize,
    /// Number of rows.
    pub(super) count: usize,
}
