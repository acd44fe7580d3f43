//! Series: their starts, and what was added.
