//! Tests of the index.

use super::*;
use crate::cluster::object::PodObject;

mod history;
