//! Developer commands; each is one file.

fn main() {}
