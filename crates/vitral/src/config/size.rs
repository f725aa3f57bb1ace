//! Heights and widths.

use serde::{Deserialize, Serialize};

/// A height and a width, in pixels or patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "SizeForm", into = "SizeForm")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// How a size is written: one number for a square, or `[height, width]`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SizeForm {
    Square(usize),
    Pair([usize; 2]),
}

impl From<SizeForm> for Size {
    fn from(form: SizeForm) -> Self {
        match form {
            SizeForm::Square(side) => Size::square(side),
            SizeForm::Pair([height, width]) => Size { height, width },
        }
    }
}

impl From<Size> for SizeForm {
    fn from(size: Size) -> Self {
        if size.height == size.width {
            SizeForm::Square(size.height)
        } else {
            SizeForm::Pair([size.height, size.width])
        }
    }
}

impl Size {
    /// A square.
    pub const fn square(side: usize) -> Self {
        Size { height: side, width: side }
    }

    /// `height × width`.
    pub const fn area(self) -> usize {
        self.height * self.width
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.height == self.width {
            write!(f, "{}", self.height)
        } else {
            write!(f, "{}×{}", self.height, self.width)
        }
    }
}
