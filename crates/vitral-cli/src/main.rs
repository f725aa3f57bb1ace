//! The binary `vitral`.

fn main() {}
