//! The `observer` program.

fn main() {}
