//! Tests of one HTTP/1 connection.
