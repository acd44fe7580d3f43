//! Cheap guesses at the protocol from the first bytes.
