//! Connections of HTTP/2, by script.
