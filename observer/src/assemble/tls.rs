//! TLS as far as it is in the clear: what a handshake offers, chooses and shows (RFC 8446, RFC
//! 5246).

pub mod hello;
pub mod ja4;
mod reader;
