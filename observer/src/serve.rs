//! Answers: metrics, health, flows and services over HTTP.
