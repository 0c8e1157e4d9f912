//! Which source is asked for which chunks.
