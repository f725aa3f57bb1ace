//! Values filled, copied, and taken from one type to another.

use super::Cuda;
use super::launch::{Arg, Source, spread};
use super::memory::{Element, Memory};

impl Cuda {
    /// A launch in which a thread does eight values.
    pub(super) fn by_eight(&self, element: Element, name: &str, count: usize, arguments: &[Arg<'_>]) {
        self.launch_for(element, Source::Elements, name, spread(count.div_ceil(8)), arguments);
    }

    pub(super) fn fill(&self, memory: &Memory, value: f32) {
        let count = memory.len();
        self.by_eight(memory.element, "fill", count, &[Arg::Of(memory), Arg::Count(count), Arg::Float(value)]);
    }

    /// Values in 32 bits: the same memory if they are.
    pub(super) fn wide(&self, x: &Memory) -> Memory {
        if !x.is_half() {
            return x.clone();
        }
        let out = self.allocate(Element::F32, x.len());
        self.widen_part(x, 0, &out);
        out
    }

    /// A part of values in 32 bits.
    pub(super) fn widen_part(&self, x: &Memory, start: usize, out: &Memory) {
        let count = out.len();
        let arguments = [Arg::From(x, start), Arg::Of(out), Arg::Count(count)];
        let name = if x.is_half() { "widened" } else { "copied" };
        // By what the values are, which another precision may have made.
        self.launch_in(x.element == Element::F16, Source::Elements, name, spread(count.div_ceil(8)), &arguments);
    }

    /// Values as products take them: the same memory if they are.
    pub(super) fn narrow(&self, x: &Memory) -> Memory {
        self.as_element(x, self.operand())
    }

    /// Rounds 32-bit values.
    pub(super) fn narrow_into(&self, x: &Memory, out: &Memory) {
        let count = x.len();
        let arguments = [Arg::Of(x), Arg::Of(out), Arg::Count(count)];
        let grid = spread(count.div_ceil(8));
        self.launch_in(out.element == Element::F16, Source::Elements, "narrowed", grid, &arguments);
    }

    /// Values in an element: the same memory if they are.
    pub(super) fn as_element(&self, x: &Memory, element: Element) -> Memory {
        if x.element == element {
            return x.clone();
        }
        let wide = self.wide(x);
        if element == Element::F32 {
            return wide;
        }
        let out = self.allocate(element, x.len());
        self.narrow_into(&wide, &out);
        out
    }

    /// A copy of values on the card.
    pub(super) fn copied(&self, x: &Memory) -> Memory {
        let out = self.allocate(x.element, x.len());
        if x.len() > 0 {
            self.inner.run(|driver| driver.copy(out.address(0), x.address(0), x.bytes()));
        }
        out
    }
}
