//! Pure parsing of packet headers.
